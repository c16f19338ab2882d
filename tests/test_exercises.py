"""The exercises: solutions pass, copies for students wait for an answer, a wrong one is told what is wrong."""

import ast
from pathlib import Path

import commands
import nbformat
import numpy as np
import pytest
import student
import torch
from saebook.exercises import Wrong, compare, frozen_decoder

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def exercises_of(notebook):
    """Pairs of cells: an answer, and the check right after it."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        (cell, after)
        for cell, after in zip(code, code[1:], strict=False)
        if {"solution", "exercise"} & set(cell.metadata.get("tags", []))
    ]


def imports_of(notebook):
    """What a notebook imports at its top level, run: all that an exercise may lean on."""
    names = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []):
            lines = [line for line in ast.parse(cell.source).body if isinstance(line, (ast.Import, ast.ImportFrom))]
            exec(compile(ast.Module(lines, []), "imports", "exec"), names)
    return names


WITH_EXERCISES = [path for path in NOTEBOOKS if tagged(nbformat.read(path, as_version=4), "solution")]


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_solutions_pass_and_the_copies_for_students_wait_for_an_answer(path, capsys):
    notebook = nbformat.read(path, as_version=4)
    names, pairs = imports_of(notebook), exercises_of(notebook)
    copies = exercises_of(student.without_solutions(notebook))
    assert len(copies) == len(pairs) == len(tagged(notebook, "check"))
    for (solution, check), (stub, _) in zip(pairs, copies, strict=True):
        assert "check" in check.metadata.get("tags", [])
        exec(solution.source, names)
        exec(check.source, names)
        assert capsys.readouterr().out.startswith("Right")
        exec(stub.source, names)
        with pytest.raises(Wrong, match="not answered yet"):
            exec(check.source, names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_copy_for_students_holds_no_solution_and_no_output(path, tmp_path):
    (made,) = student.write([path], tmp_path)
    copy = nbformat.read(made, as_version=4)
    nbformat.validate(copy)
    for cell in copy.cells:
        assert "SOLUTION" not in cell.source and "solution" not in cell.metadata.get("tags", [])
        assert not cell.get("outputs")
    (parameters,) = tagged(copy, "parameters")
    assert "book/results" not in parameters.source  # those lie beside the book, not beside a download


def test_a_copy_for_elsewhere_begins_by_installing():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    copy = student.without_solutions(notebook, student.install_cell("https://example.org/a/b", "0123abc"))
    assert "https://example.org/a/b" in copy.cells[0].source and "0123abc" in copy.cells[0].source
    assert len(copy.cells) == len(notebook.cells) + 1


def test_a_solution_that_is_not_marked_is_refused():
    cell = nbformat.v4.new_code_cell("answer = 1", metadata={"tags": ["solution"]})
    with pytest.raises(commands.Refused, match="marks none"):
        student.without_solutions(nbformat.v4.new_notebook(cells=[cell]))


def stops(x):
    raise KeyError("no such thing")


@pytest.mark.parametrize(
    "answer, told",
    [
        (lambda x: None, "not answered yet"),
        (lambda x: ..., "not answered yet"),
        (stops, "stops stopped with KeyError"),
        (lambda x: "three", "a number or an array of numbers, not str"),
        (lambda x: torch.zeros(2), r"shape \(3,\), and gave shape \(2,\)"),
        (lambda x: x / 0, "NaN or infinity"),
        (lambda x: 2 * x, "You doubled it"),
        (lambda x: x + torch.tensor([0.0, 0.0, 5.0]), r"gave 8 at \(2,\) where 3 is right"),
    ],
)
def test_compare_says_what_is_wrong(answer, told):
    x = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(Wrong, match=told):
        compare(answer, (x,), x, [(2 * x, "You doubled it.")])


def test_compare_lets_a_right_answer_pass_and_refuses_a_check_that_could_not_tell(capsys):
    compare(lambda x: np.float32(4.0), (2,), 4, said="Right, four.")
    assert capsys.readouterr().out == "Right, four.\n"
    with pytest.raises(ValueError, match="cannot tell this mistake"):
        compare(lambda x: x, (2,), 4, [(2 * 2, "doubled")])


@pytest.mark.parametrize(
    "check, answer, told",
    [
        (frozen_decoder.check_share_of_room, lambda trained, frozen, floor: frozen / trained, "takes the floor for"),
        (frozen_decoder.check_best_cosine, lambda directions, target: (directions @ target).max(), "dot products"),
    ],
)
def test_a_likely_mistake_is_named(check, answer, told):
    with pytest.raises(Wrong, match=told):
        check(answer)
