"""Settings refused in one sentence, each by the function for its kind."""

import math
import subprocess
import sys

import execute
import pytest
import sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from saelite import __main__, arguments
from saelite.checking import foreign_sae
from saelite.data import language_models
from saelite.training import LR

ANYTHING = st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
NUMBERS = st.integers() | st.floats()


def refusal(check, *arguments, **settings):
    """The sentence in which a check refuses, or None."""
    try:
        check(*arguments, **settings)
    except ValueError as error:
        return str(error)
    return None


@settings(deadline=None)
@given(NUMBERS | ANYTHING, st.integers(-5, 5))
def test_what_is_no_whole_number_in_range_is_refused_by_name(value, low):
    many = value if isinstance(value, list) else [value]
    fits = bool(many) and all(isinstance(n, int) and not isinstance(n, bool) and n >= low for n in many)
    said = refusal(arguments.whole, low, tokens=value)
    assert (said is None) == fits
    assert fits or (said.startswith("tokens=") and said.endswith("."))


@settings(deadline=None)
@given(NUMBERS | ANYTHING)
def test_no_check_of_a_number_lets_nan_or_infinity_pass(value):
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    many = isinstance(value, list) and value
    for check, fits in (
        ((arguments.above, 0), lambda n: n > 0),
        ((arguments.between, 0, 1), lambda n: 0 <= n <= 1),
    ):
        passes = (number and fits(value)) or bool(many and all(map(fits, value)))
        assert (refusal(*check, lr=value) is None) == passes


@pytest.mark.parametrize(
    "change, named",
    [
        ({"tokens": 100}, "tokens=100"),
        ({"tokens": 0}, "tokens=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": 1e30}, "lr=1e"),
        ({"seed": -1}, "seed=-1"),
        ({"train_tokens": -1}, "train_tokens=-1"),
        ({"train_tokens": 5}, "train_tokens=5"),
        ({"train_tokens": 5000, "epochs": 2}, "epochs=2"),
        ({"samples": 0}, "samples=0"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(change, named):
    fine = {"tokens": 4000, "batch_size": 256, "lr": 3e-3, "seed": 0, "epochs": 1, "train_tokens": 0}
    assert refusal(arguments.training, **fine) is None
    assert named in refusal(arguments.training, **fine | change)


def test_what_the_machine_has_no_memory_for_is_refused():
    assert refusal(arguments.memory, 1e3, "A thousand bytes") is None
    assert "A great many need 1,000,000 GB" in refusal(arguments.memory, 1e15, "A great many")


def test_things_named_twice_or_not_at_all_are_refused():
    assert refusal(arguments.each_once, tasks=["a", "b"]) is None
    for tasks in ([], ["a", "a"], "a", None):
        assert "tasks=" in refusal(arguments.each_once, tasks=tasks)


SECRET = "hunter2"
WITH_SECRETS = [
    f"https://user:{SECRET}@host/v1",
    f"https://{SECRET}@host",
    f"https://host/v1?token={SECRET}",
    f"https://host/v1?page=2&api_key={SECRET}",
    f"https://host/v1#access_token={SECRET}",
    f"s3://key:{SECRET}@bucket/folder",
    f"s3://bucket/folder?X-Amz-Signature={SECRET}",
    f"tls://user:{SECRET}@host:8786",
    f"user:{SECRET}@host:8786",
]
WITHOUT = ["https://api.openai.com/v1", "tls://host:8786", "s3://bucket/folder", "owner/set:config", "host:8786", "~/x"]
WITHOUT += ["https://host/v1?page=2", "write to me@example.org: thanks", "../book/results/puzzle", ""]


@pytest.mark.parametrize("address", WITH_SECRETS)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address):
    for value in (address, [address], {"deep": [address]}):
        said = refusal(arguments.no_credentials, judge_url=value)
        assert said.startswith("judge_url") and SECRET not in said


@pytest.mark.parametrize("address", WITHOUT)
def test_other_addresses_and_texts_pass(address):
    assert refusal(arguments.no_credentials, judge_url=address) is None


NOTEBOOK = "10_autointerp"
COMMANDS = [
    (execute, lambda address: [NOTEBOOK, "-p", "judge_url", address]),
    (execute, lambda address: [NOTEBOOK, "--out", address]),
    (execute, lambda address: [address]),
    (sweep, lambda address: [NOTEBOOK, "-g", "seed=0,1", "--out", address]),
    (sweep, lambda address: [NOTEBOOK, "-g", "seed=0,1", "--out", "x", "--scheduler", address]),
    (sweep, lambda address: [NOTEBOOK, "-g", f"judge_url={address},{address}", "--out", "x"]),
    (sweep, lambda address: [address, "-g", "seed=0,1", "--out", "x"]),
    (sweep, lambda address: [NOTEBOOK, "--no-such-option", address]),
]


@pytest.mark.parametrize("address", [WITH_SECRETS[0], WITH_SECRETS[2], WITH_SECRETS[5], WITH_SECRETS[7]])
@pytest.mark.parametrize("module, words", COMMANDS)
def test_a_command_with_a_secret_in_it_runs_nothing_and_does_not_repeat_it(module, words, address, capsys):
    assert module.main(words(address)) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and SECRET not in said.err + said.out


def test_a_secret_in_a_file_of_parameters_is_refused(tmp_path, capsys):
    file = tmp_path / "parameters.yaml"
    file.write_text(f"{NOTEBOOK}: {{judge_url: 'https://user:{SECRET}@host'}}")
    assert execute.main([NOTEBOOK, "-f", str(file), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "judge_url" in said and SECRET not in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["chek", "path"], "no command 'chek'; choose from check, plan, cache; did you mean check?"),
        (["check", "path", "--layr", "9"], "no option '--layr'; did you mean --layer?"),
        (["check", "--modle=gpt2", "path"], "no option '--modle'; did you mean --model?"),
        (["check", "path", "--layer", "9", "--site", "mpl"], "no site 'mpl'; choose from residual, mlp, attention"),
        (["check", "path", "--layer", "9", "--evaluations", "probng"], "no evaluation 'probng'"),
        (["check", "path", "--layer", "9", "--tokens", "0"], "tokens=0"),
        (["check", "path", "--layer", "many"], "invalid int value: 'many'; saelite check --help says"),
        (["check", "path"], "required: --layer"),
        (["plan", "--tflops", "0"], "tflops=0.0"),
        (["cache", "--cleen"], "did you mean --clean?"),
        (["--hepl"], "did you mean --help?"),
        ([], "required: command"),
    ],
)
def test_a_slip_in_a_command_is_answered_in_one_line_before_anything_large_is_imported(words, message):
    code = f"import sys; from saelite.__main__ import main; code = main({words}); print('torch' in sys.modules, code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False 2\n"
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_what_the_command_offers_is_what_there_is():
    assert tuple(language_models.SITES) == __main__.SITES
    assert foreign_sae.EVALUATIONS == __main__.EVALUATIONS
    assert __main__.CHECK["lr"][0] == LR
