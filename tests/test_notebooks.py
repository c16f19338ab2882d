"""What each notebook of the book must be before it is run (nbmake runs it, as a copy with quick parameters)."""

import ast
import re
from pathlib import Path

import nbformat
import notebook_parameters
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
by_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def test_each_notebook_has_both_files_and_a_place_in_the_book():
    stems = [source.stem for source in SOURCES]
    assert stems == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [f"notebooks/{stem}" for stem in stems] == [name for name in chapters if name.startswith("notebooks/")]


@by_notebook
def test_py_and_ipynb_hold_the_same_cells(source):
    assert notebook_parameters.cell_sources(source) == notebook_parameters.cell_sources(source.with_suffix(".ipynb"))


@by_notebook
def test_committed_notebook_has_no_outputs(source):
    for cell in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.source


@by_notebook
def test_no_cell_prints_a_link_to_a_chapter(source):
    """Sphinx resolves them in prose alone; in an output they lead nowhere."""
    for cell in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells:
        assert cell.cell_type != "code" or not re.search(r"\]\(\d\d_\w+\)", cell.source), cell.source


@by_notebook
def test_every_parameter_has_a_type_a_fitting_default_and_a_comment(source):
    notebook = source.with_suffix(".ipynb")
    cells = nbformat.read(notebook, as_version=4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    lines = cell.source.splitlines()
    parameters = ast.parse(cell.source).body
    assert parameters
    for parameter in parameters:
        text = ast.unparse(parameter)
        assert isinstance(parameter, ast.AnnAssign), f"{text} needs a type"
        after = lines[parameter.end_lineno - 1].encode()[parameter.end_col_offset :].decode()
        assert after.strip().startswith("# "), f"{text} needs a comment that says what it means"
        notebook_parameters.check_parameters(notebook, {parameter.target.id: ast.literal_eval(parameter.value)})


CHAPTERS = [source for source in SOURCES if not source.stem.startswith("9")]  # the rest is for reference


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_a_lesson(source):
    """What CONTRIBUTING.md promises of each: a guess, a result to doubt, graded exercises, a quiz."""
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    opening = next(cell.source for cell in cells if cell.cell_type == "markdown")
    lesson = re.search(r"```\{admonition\} This lesson\n(.*?)```", opening, re.DOTALL)[1]
    assert [*re.findall(r"^- \*\*([^*]+)\*\*", lesson, re.MULTILINE)] == ["You will learn", "You need", "Time"]
    assert "{term}`" in lesson and (re.search(r"\]\(\d\d_\w+\)", lesson) or source == CHAPTERS[0])
    assert re.search(r"\*\*[^*]*\b(write down|guess)[^*]*\*\*", text, re.IGNORECASE)
    assert re.findall(r"^\*(Easy|Medium|Hard), \d+ minutes", text, re.MULTILINE) == ["Easy", "Medium", "Hard"]
    assert len(re.findall(r"^:label: ex-", text, re.MULTILINE)) == 3
    assert sum("check" in cell.metadata.get("tags", []) for cell in cells) >= 2
    quiz = text[text.index("## Quiz\n") :]
    assert re.findall(r"^```\{dropdown\} (\d)\. ", quiz, re.MULTILINE) == ["1", "2", "3"]
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    parts = ["What would change my mind", "Exercises", "Quiz", "Key points", "Further reading"]
    assert [heading for heading in headings if heading in parts] == parts
    assert "{cite:t}`" in text[text.index("## Further reading\n") :]


@pytest.mark.parametrize("file", ["quick.yaml", "paper.yaml"])
def test_kept_parameters_fit_the_notebooks(file):
    notebook_parameters.plan([source.with_suffix(".ipynb") for source in SOURCES], file=ROOT / "book" / "params" / file)


def test_the_papers_setting_is_one_in_all_chapters():
    """Same settings, same cache keys: what one chapter has trained, the next one reads."""
    chapters = yaml.safe_load((ROOT / "book" / "params" / "paper.yaml").read_text())
    reads_a_model = {source.stem for source in SOURCES if "harvest_context" in parameters_of(source)}
    assert set(chapters) == reads_a_model
    for name in ("model", "layer", "site", "texts", "harvest_context", "lr", "batch_size"):
        assert len({chapter[name] for chapter in chapters.values()}) == 1, name
    for name in ("tokens", "train_tokens", "expansion", "l0", "architectures"):
        assert len({str(chapter[name]) for chapter in chapters.values() if "train_tokens" in chapter}) == 1, name


def parameters_of(source):
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return {line.target.id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}


@pytest.mark.parametrize("stem", ["09_reconstruction", "10_autointerp", "11_sparse_probing", "12_causal_editing"])
def test_the_scorecard_asks_for_what_the_chapters_have_made(stem):
    """Same defaults, same cache keys: else the scorecard would score the whole grid once more."""
    chapter, card = (parameters_of(ROOT / "notebooks" / f"{name}.py") for name in (stem, "14_scorecard"))
    shared = set(chapter) & set(card) - {"reference"}
    assert len(shared) >= 12
    assert {name: chapter[name] for name in shared} == {name: card[name] for name in shared}


def test_pitfalls_reads_what_the_chapter_on_reconstruction_has_made():
    """Its SAEs and its floors: with other defaults it would train and score them once more."""
    chapter, pitfalls = (
        parameters_of(ROOT / "notebooks" / f"{name}.py") for name in ("09_reconstruction", "16_pitfalls")
    )
    shared = set(chapter) & set(pitfalls)
    assert {"tokens", "l0", "expansion", "batch_size", "epochs", "lr", "seed", "spliced_tokens"} <= shared
    assert {name: chapter[name] for name in shared} == {name: pitfalls[name] for name in shared}
    assert pitfalls["architecture"] in chapter["architectures"]


# What is not prose, or already a link: blocks of code, headings, first lines and options of directives, rows of tables,
# roles, code, maths, links to pages.
NOT_PROSE = re.compile(
    r"^```(?!\{)\w+\n.*?^```|^\s*(?:#|```|:|\|).*?$|\{[a-z:]+\}`[^`]*`|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\[[^\]]*\]\([^)]*\)",
    re.MULTILINE | re.DOTALL,
)


def glossary():
    """The terms, longest first, each with the pattern of its uses, in the singular or the plural."""
    block = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8").partition("```{glossary}\n")[2]
    terms = re.findall(r"^[^\s`].*", block, re.MULTILINE)
    patterns = {}
    for term in sorted(terms, key=len, reverse=True):
        words = r"\s+".join(map(re.escape, term.split()))
        plural = re.sub("y$", "(?:y|ies)", words) if term.endswith("y") else f"{words}(?:s|es)?"
        other = r"(?!\s+functions?\b)" if term == "activation" else ""  # an activation function is another thing
        case = 0 if re.search("[A-Z]", term) else re.IGNORECASE
        patterns[term] = re.compile(rf"(?<![\w-]){plural}(?![\w-]){other}", case)
    return patterns


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_chapter_links_the_terms_of_the_glossary_that_it_uses(source):
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = text.partition("# Further reading")[0]
    linked = {name.lower() for name in re.findall(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`", text)}
    prose, used = NOT_PROSE.sub("\0", text), set()
    for term, pattern in glossary().items():
        prose, uses = pattern.subn("\0", prose)  # a term that is part of a longer one is not used there
        if uses:
            used.add(term.lower())
    assert len(linked) > 2 and used - linked == set()
