"""Label purity and the pictures, on images whose latents are known: a latent a colour."""

from itertools import combinations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from saebook.contexts import at_percentiles, gallery, pictures, pictures_html
from torch import nn
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from saelite.data.vision_models import VisionModel, harvest_images
from saelite.evaluations.label_purity import PURITY, PURITY_RARE, LabelPurity, agreement, draw_rare, image_peaks
from saelite.evaluations.scorecard import scorecard
from saelite.reuse import over, references

N, SIDE = 60, 4
TEXT = datasets.Value("string")


class Colours(nn.Module):
    """Latents that are known: red, green, one that is dead, and one that fires everywhere, by noise."""

    def __init__(self, random=False):
        super().__init__()
        self.register_buffer("random", torch.tensor(random))

    def encode(self, x):
        red, green, blue = x.T
        if self.random:  # the blue channel holds noise
            return torch.stack([blue, (blue * 997) % 1, (blue * 9973) % 1], dim=1)
        return torch.relu(torch.stack([red - green, green - red, torch.zeros_like(red), blue], dim=1))


@pytest.fixture
def world():
    """Images with one red or one green cell, brighter from image to image; blue is noise. Blocks read mean colours."""
    rng, rows = np.random.default_rng(0), []
    for number in range(N):
        pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
        pixels[..., 2] = rng.integers(20, 250, (SIDE, SIDE))
        label = ("red", "green")[number % 2]
        pixels[number % SIDE, 3, number % 2] = 100 + 2 * number
        rows.append((Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST), label))
    images = datasets.Dataset.from_dict(
        {
            "image": [picture for picture, _ in rows],
            "label": [label for _, label in rows],
            "name": [f"<b>{i}</b> {label}" for i, (_, label) in enumerate(rows)],
            "credit": ["us"] * N,
        },
        features=datasets.Features({"image": datasets.Image(), "label": TEXT, "name": TEXT, "credit": TEXT}),
    )

    processor = CLIPImageProcessorPil(do_resize=False, do_center_crop=False, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    pool = nn.AvgPool2d(8)
    vm = VisionModel(nn.Sequential(pool), processor, [pool], "colours", torch.device("cpu"))
    return vm, images, harvest_images(vm, images, layer=0, progress=False)


def test_agreement_is_the_share_of_pairs_that_are_alike():
    labels = np.random.default_rng(0).integers(0, 3, (20, 6))
    expected = [np.mean([a == b for a, b in combinations(row, 2)]) for row in labels]
    np.testing.assert_allclose(agreement(labels), expected)
    assert agreement(np.zeros((0, 5), dtype=int)).shape == (0,)


def test_peaks_are_the_largest_of_each_image_and_where_it_is(world):
    _, _, store = world
    peaks = image_peaks(Colours(), store.held_out)
    code = Colours().encode(store.held_out[:]).view(-1, SIDE * SIDE, 4).numpy()
    for image in range(len(code)):
        for latent in range(4):
            assert peaks.activation[image, latent] == code[image, :, latent].max()
            assert code[image, peaks.place[image, latent], latent] == code[image, :, latent].max()
    np.testing.assert_allclose(peaks.frequency, (code > 0).mean(axis=(0, 1)))
    assert peaks.frequency[2] == 0 and peaks.frequency[0] == pytest.approx(0.5 / 16)


def test_pure_latents_score_one_and_noise_scores_chance(world):
    _, images, store = world
    purity = LabelPurity(store, images["label"], l0=1, top=8, rare=0.1)
    table = purity(Colours()).set_index(["metric", "item"])
    of_all = table.loc[PURITY]
    assert of_all["score"][[0, 1]].tolist() == [1, 1] and of_all["label"][[0, 1]].tolist() == ["red", "green"]
    assert set(of_all.index) == {0, 1, 3} and set(table.loc[PURITY_RARE].index) == {0, 1}  # latent 2 never fires
    assert (of_all["latents"] == 4).all() and (of_all["alive"] == 3).all() and (of_all["eligible"] == 3).all()
    held_out = images["label"][30:]
    assert purity.chance == pytest.approx(np.mean([a == b for a, b in combinations(held_out, 2)]))
    noisy = purity(Colours(random=True))
    assert abs(noisy["score"].mean() - purity.chance) < 0.2 and noisy["score"].max() < 1


def test_latents_that_fire_on_too_few_images_are_counted_not_scored(world):
    _, images, store = world
    table = LabelPurity(store, images["label"], l0=1, top=16)(Colours())  # 15 held-out images are red, 15 green
    assert table["item"].tolist() == [3] and table["eligible"].tolist() == [1] and table["alive"].tolist() == [3]


def test_references_are_chance_channels_and_probes_that_were_told(world):
    _, images, store = world
    purity = LabelPurity(store, images["label"], l0=1, top=8)
    table = references(purity)
    kinds = table.drop_duplicates("reference").set_index("reference")["kind"].to_dict()
    assert kinds == {"random images": "floor", "supervised probes": "ceiling", "neurons": "yardstick"}
    means = table[table["metric"] == PURITY].groupby("reference")["score"].mean()
    assert means["random images"] == pytest.approx(purity.chance, abs=0.01)
    assert means["supervised probes"] == 1
    assert set(table[(table["metric"] == PURITY) & (table["kind"] == "ceiling")]["label"]) == {"red", "green"}


def test_it_goes_through_the_scorecard(world):
    _, images, store = world
    purity = LabelPurity(store, images["label"], l0=1, top=8)
    saes = {("known", "fully trained"): Colours(), ("known", "noise"): Colours(random=True)}
    assert set(over(saes, purity, progress=False)["baseline"]) == {"fully trained", "noise"}
    card = scorecard(saes, [(purity, {PURITY: 0.03})], progress=False).set_index("baseline")
    assert (card["floor_is"] == "random images").all() and (card["ceiling_is"] == "supervised probes").all()
    assert card.loc["fully trained", "score"] > card.loc["noise", "score"]


def test_percentiles_go_from_the_strongest_down_among_firing_images():
    activation = np.array([0, 5, 1, 0, 4, 2, 3, 0], dtype=float)  # fires on five; 25% of five is the second weakest
    assert activation[at_percentiles(activation)].tolist() == [5, 4, 3, 2]
    assert at_percentiles(np.array([0, 7.0])).tolist() == [1, 1, 1, 1]
    assert len(at_percentiles(np.zeros(3))) == 0


def test_rare_latents_are_rare_and_can_be_shown(world):
    _, _, store = world
    peaks = image_peaks(Colours(), store.held_out)
    assert draw_rare(peaks, 5, below=0.1).tolist() == [0, 1]  # not 2, which is dead, nor 3, which always fires
    assert len(draw_rare(peaks, 1, below=0.1)) == 1 and not len(draw_rare(peaks, 5, below=0.001))
    assert not len(draw_rare(peaks, 5, below=0.1, min_images=16))


def test_pictures_tint_the_place_that_fires(world):
    vm, images, store = world
    peaks = image_peaks(Colours(), store.held_out)
    table = pictures(vm, Colours(), store.held_out, images, peaks, [1])
    assert table["percentile"].tolist() == [100, 75, 50, 25] and set(table["label"]) == {"green"}
    assert table["activation"].is_monotonic_decreasing and (table["fires_on"] == 15).all()
    for row in table.itertuples(index=False):
        number = int(row.name.split("<")[1][2:])
        pixels, cell = np.asarray(row.picture).astype(int), row.picture.width // SIDE
        middle = pixels[(number % SIDE) * cell + cell // 2, 3 * cell + cell // 2]
        elsewhere = pixels[((number + 2) % SIDE) * cell + cell // 2, cell // 2]
        assert middle[0] > 120 > elsewhere[0]  # the tint is reddish; green and blue are not


def test_html_escapes_names_and_says_when_there_is_nothing(world):
    vm, images, store = world
    peaks = image_peaks(Colours(), store.held_out)
    some, none = (pictures(vm, Colours(), store.held_out, images, peaks, latents) for latents in ([0], []))
    found = {"<i>": some, "none": none}
    page = pictures_html(found, "us & them")
    assert page.count("<img") == 4 and page.count('alt="&lt;b&gt;') == 4 and "<b>" not in page and "<i>" not in page
    assert "us &amp; them" in page and "No latent is this rare" in page
    assert '"><script>' not in gallery([Image.new("RGB", (4, 4))], ['"><script>'], ['"><script>'])


def test_bad_settings_are_refused_in_a_sentence(world):
    _, images, store = world
    with pytest.raises(ValueError, match="59 labels for 60 images"):
        LabelPurity(store, images["label"][:59], l0=1)
    for top in (1, 31):
        with pytest.raises(ValueError, match="from 2 to 30"):
            LabelPurity(store, images["label"], l0=1, top=top)
    with pytest.raises(ValueError, match="the same label"):
        LabelPurity(store, ["red"] * N, l0=1)
