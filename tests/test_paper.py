import pytest
from saebook.paper import paper_scores, paper_table


def test_the_table_is_whole_and_holds_what_the_paper_says():
    table = paper_table()
    assert len(table) == 3 * 2 * 6 * 4 and not table.drop(columns="spread").isna().any(axis=None)
    assert not table.duplicated(["site", "architecture", "baseline", "metric"]).any()
    assert paper_scores("explained variance")["BatchTopK", "fully trained"] == 0.852
    assert paper_scores("causal editing")["JumpReLU", "Soft-Frozen Decoder"] == 0.739
    assert paper_scores("probe k=1", "Llama-3-8B layer 16")["JumpReLU", "Frozen Decoder (cov)"] == 0.5


def test_what_the_paper_does_not_have_is_refused():
    with pytest.raises(ValueError, match="no metric 'L0'; it has explained variance, probe k=1"):
        paper_scores("L0")
