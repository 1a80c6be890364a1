"""Checkpoints of every layout against transformers' CLIPModel and against a plain restatement of CLIP."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from mmreid_text.apis import build_clip, tokenize
from mmreid_text.models.backbones.patch_encoder import resize_positions
from mmreid_text.models.checkpoints import load_clip, load_into

CAPTIONS = ["A man in a red coat.", "A woman with a long blue dress and white shoes", "", "red " * 100]
# OpenAI's files do not state heads: one per 64 channels, at least one.
SMALL = {"width": 48, "depth": 3, "heads": 1, "patch": 8, "side": 32, "twidth": 32, "tdepth": 2, "theads": 1, "dim": 24}
WIDE = {
    "width": 128,
    "depth": 2,
    "heads": 2,
    "patch": 32,
    "side": 96,
    "twidth": 64,
    "tdepth": 3,
    "theads": 1,
    "dim": 40,
}


def hugging_face(spec):
    torch.manual_seed(0)
    text = {
        "hidden_size": spec["twidth"],
        "intermediate_size": 4 * spec["twidth"],
        "num_hidden_layers": spec["tdepth"],
        "num_attention_heads": spec["theads"],
        "vocab_size": 49408,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    }
    vision = {
        "hidden_size": spec["width"],
        "intermediate_size": 4 * spec["width"],
        "num_hidden_layers": spec["depth"],
        "num_attention_heads": spec["heads"],
        "patch_size": spec["patch"],
        "image_size": spec["side"],
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=spec["dim"])).eval()
    for p in model.parameters():  # biases and norms start as zeros and ones, which would hide swaps
        p.data.add_(0.05 * torch.randn_like(p))
    return model


def openai_state(model):
    """The same weights in OpenAI's names, by hand."""
    theirs = model.state_dict()
    state = {"logit_scale": theirs["logit_scale"]}
    for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        depth = len({key.split(".")[3] for key in theirs if key.startswith(f"{tower}.encoder.layers.")})
        for i in range(depth):
            a, b = f"{tower}.encoder.layers.{i}.", f"{prefix}.resblocks.{i}."
            for end in ("weight", "bias"):
                state[f"{b}attn.in_proj_{end}"] = torch.cat([theirs[f"{a}self_attn.{n}_proj.{end}"] for n in "qkv"])
                state[f"{b}attn.out_proj.{end}"] = theirs[f"{a}self_attn.out_proj.{end}"]
                state[f"{b}ln_1.{end}"] = theirs[f"{a}layer_norm1.{end}"]
                state[f"{b}ln_2.{end}"] = theirs[f"{a}layer_norm2.{end}"]
                state[f"{b}mlp.c_fc.{end}"] = theirs[f"{a}mlp.fc1.{end}"]
                state[f"{b}mlp.c_proj.{end}"] = theirs[f"{a}mlp.fc2.{end}"]
    for end in ("weight", "bias"):
        state[f"visual.ln_pre.{end}"] = theirs[f"vision_model.pre_layrnorm.{end}"]
        state[f"visual.ln_post.{end}"] = theirs[f"vision_model.post_layernorm.{end}"]
        state[f"ln_final.{end}"] = theirs[f"text_model.final_layer_norm.{end}"]
    state["visual.class_embedding"] = theirs["vision_model.embeddings.class_embedding"]
    state["visual.positional_embedding"] = theirs["vision_model.embeddings.position_embedding.weight"]
    state["visual.conv1.weight"] = theirs["vision_model.embeddings.patch_embedding.weight"]
    state["visual.proj"] = theirs["visual_projection.weight"].t()
    state["token_embedding.weight"] = theirs["text_model.embeddings.token_embedding.weight"]
    state["positional_embedding"] = theirs["text_model.embeddings.position_embedding.weight"]
    state["text_projection"] = theirs["text_projection.weight"].t()
    return {key: value.clone() for key, value in state.items()}


class Node(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_torchscript(state, path):
    """An archive with OpenAI's module tree and its three numbers beside the weights."""
    root = Node()
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    for name, value in {**state, **{k: torch.tensor(v) for k, v in numbers.items()}}.items():
        node, parts = root, name.split(".")
        for part in parts[:-1]:
            if not hasattr(node, part):
                node.add_module(part, Node())
            node = getattr(node, part)
        if name in numbers:
            node.register_buffer(parts[-1], value)
        else:
            node.register_parameter(parts[-1], nn.Parameter(value, requires_grad=value.is_floating_point()))
    torch.jit.save(torch.jit.script(root), str(path))


def save(layout, model, folder):
    """Write the model in a layout; return the path to load."""
    state = openai_state(model)
    if layout == "openai_archive":
        save_torchscript(state, folder / "clip.pt")
    elif layout == "openai_archive_half":
        save_torchscript({k: v.half() for k, v in state.items()}, folder / "clip.pt")
    elif layout == "openai_state":
        torch.save(state, folder / "clip.pt")
    elif layout == "openai_half":
        torch.save({k: v.half() for k, v in state.items()}, folder / "clip.pt")
    elif layout == "openai_wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "clip.pt")
    elif layout == "hf_folder":
        model.save_pretrained(folder)
        return str(folder)
    elif layout == "hf_bin_folder":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "config.json").write_text(model.config.to_json_string())
        return str(folder)
    elif layout == "hf_safetensors":
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "clip.safetensors")
        return str(folder / "clip.safetensors")
    return str(folder / "clip.pt")


EXACT = ["openai_archive", "openai_state", "openai_wrapped", "hf_folder", "hf_bin_folder", "hf_safetensors"]
HALF = ["openai_archive_half", "openai_half"]


@pytest.mark.parametrize("spec", [SMALL, WIDE], ids=["width48_patch8", "width128_patch32"])
@pytest.mark.parametrize("layout", EXACT + HALF)
def test_features_equal_transformers(spec, layout, tmp_path):
    theirs = hugging_face(spec)
    ours = build_clip(save(layout, theirs, tmp_path), (spec["side"], spec["side"]))
    if layout in HALF:
        theirs = theirs.half().float()
    assert not ours.training
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    image, text = torch.randn(3, 3, spec["side"], spec["side"]), tokenize(CAPTIONS)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.encode_image(image), theirs.get_image_features(image).pooler_output, atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            ours.encode_text(text), theirs.get_text_features(text).pooler_output, atol=1e-5, rtol=0
        )


# --- CLIP in plain arithmetic, from OpenAI's names ----------------------------------------------------------------


def norm(x, state, name):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def naive_blocks(x, state, prefix, heads, layers, causal):
    """Hidden states of one sequence x (N, W) after each number of blocks."""
    n, width = x.shape
    states = [x]
    for i in range(layers):
        p = f"{prefix}.resblocks.{i}"
        qkv = norm(x, state, f"{p}.ln_1") @ state[f"{p}.attn.in_proj_weight"].t() + state[f"{p}.attn.in_proj_bias"]
        mixed = []
        for q, k, v in zip(*(part.split(width // heads, dim=1) for part in qkv.split(width, dim=1))):
            score = q @ k.t() / (width // heads) ** 0.5
            if causal:
                score = score + torch.full((n, n), float("-inf"), dtype=x.dtype).triu(1)
            mixed.append(score.softmax(dim=1) @ v)
        x = x + torch.cat(mixed, dim=1) @ state[f"{p}.attn.out_proj.weight"].t() + state[f"{p}.attn.out_proj.bias"]
        h = norm(x, state, f"{p}.ln_2") @ state[f"{p}.mlp.c_fc.weight"].t() + state[f"{p}.mlp.c_fc.bias"]
        h = h * torch.sigmoid(1.702 * h)
        x = x + h @ state[f"{p}.mlp.c_proj.weight"].t() + state[f"{p}.mlp.c_proj.bias"]
        states.append(x)
    return states


def naive_resize(grid, rows, columns):
    """Bilinear with half-pixel centres, (h, w, W) -> (rows, columns, W), position by position."""
    h, w, _ = grid.shape
    out = torch.empty(rows, columns, grid.shape[2], dtype=grid.dtype)
    for r in range(rows):
        for c in range(columns):
            y = min(max((r + 0.5) * h / rows - 0.5, 0), h - 1)
            x = min(max((c + 0.5) * w / columns - 0.5, 0), w - 1)
            y0, x0 = int(y), int(x)
            y1, x1, fy, fx = min(y0 + 1, h - 1), min(x0 + 1, w - 1), y - y0, x - x0
            top = grid[y0, x0] * (1 - fx) + grid[y0, x1] * fx
            bottom = grid[y1, x0] * (1 - fx) + grid[y1, x1] * fx
            out[r, c] = top * (1 - fy) + bottom * fy
    return out


def naive_image(image, state, heads, layers, patch):
    rows, columns = image.shape[1] // patch, image.shape[2] // patch
    weight = state["visual.conv1.weight"].flatten(1)
    patches = [
        weight @ image[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].reshape(-1)
        for r in range(rows)
        for c in range(columns)
    ]
    table = state["visual.positional_embedding"]
    side = round((len(table) - 1) ** 0.5)
    grid = naive_resize(table[1:].view(side, side, -1), rows, columns).flatten(0, 1)
    x = torch.stack([state["visual.class_embedding"], *patches]) + torch.cat([table[:1], grid])
    states = naive_blocks(norm(x, state, "visual.ln_pre"), state, "visual.transformer", heads, layers, causal=False)
    return [norm(s, state, "visual.ln_post") @ state["visual.proj"] for s in states]


def naive_text(ids, state, heads, layers):
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: len(ids)]
    states = naive_blocks(x, state, "transformer", heads, layers, causal=True)
    return [norm(s, state, "ln_final") @ state["text_projection"] for s in states]


@pytest.mark.parametrize(("spec", "size"), [(SMALL, (96, 32)), (SMALL, (16, 40)), (WIDE, (192, 64))])
def test_features_and_tokens_equal_a_plain_restatement(spec, size, tmp_path):
    theirs = hugging_face(spec)
    ours = build_clip(save("openai_archive", theirs, tmp_path), size)
    state = {key: value.double() for key, value in openai_state(theirs).items()}
    image, text = torch.randn(2, 3, *size), tokenize(CAPTIONS[:2])
    images = [naive_image(i.double(), state, spec["heads"], spec["depth"], spec["patch"]) for i in image]
    texts = [naive_text(t, state, spec["theads"], spec["tdepth"]) for t in text]

    def close(got, expected):
        torch.testing.assert_close(got.double(), torch.stack(expected), atol=1e-5, rtol=0)

    with torch.no_grad():
        close(ours.encode_image(image), [states[-1][0] for states in images])
        close(ours.encode_text(text), [states[-1][t.argmax()] for states, t in zip(texts, text)])
        for layer in range(min(spec["depth"], spec["tdepth"]) + 1):
            image_tokens, text_tokens = ours.token_features(image, text, layer)
            close(image_tokens, [states[layer] for states in images])
            for tokens, states, t in zip(text_tokens, texts, text):
                close(tokens[: t.argmax() + 1], list(states[layer][: t.argmax() + 1]))


def test_resize_positions_is_exact():
    positions = torch.randn(1, 1 + 14 * 14, 5, generator=torch.Generator().manual_seed(0))
    assert resize_positions(positions, (14, 14), (14, 14)) is positions
    for target in ((24, 8), (7, 7), (1, 3), (30, 30)):
        resized = resize_positions(positions, (14, 14), target)
        expected = naive_resize(positions[0, 1:].view(14, 14, 5), *target).flatten(0, 1)
        torch.testing.assert_close(resized[0, 1:], expected, atol=5e-6, rtol=0)
        assert torch.equal(resized[:, :1], positions[:, :1])
    scaled = resize_positions(torch.full((1, 1 + 6, 2), 3.0), (3, 2), (5, 7))
    torch.testing.assert_close(scaled, torch.full((1, 1 + 35, 2), 3.0))


def test_own_checkpoint_of_a_non_square_grid_is_resized(tmp_path):
    first = build_clip(save("hf_folder", hugging_face(SMALL), tmp_path), (96, 32))
    torch.save({"meta": {}, "state_dict": first.state_dict()}, tmp_path / "own.pth")
    second = build_clip(str(tmp_path / "own.pth"), (48, 16))
    expected = resize_positions(first.image_encoder.pos_embed, (12, 4), (6, 2))
    assert torch.equal(second.image_encoder.pos_embed, expected)
    # the same through load_state_dict, which takes weights to another grid too
    third = build_clip(str(tmp_path), (48, 16))
    third.load_state_dict(first.state_dict())
    assert torch.equal(third.image_encoder.pos_embed, expected)
    assert third.image_encoder.layout.tolist() == [6, 2, 1]
    image = torch.randn(2, 3, 48, 16)
    assert torch.equal(second.encode_image(image), third.encode_image(image))


def test_architecture_is_as_stated(tmp_path):
    weights = load_clip(save("openai_archive", hugging_face(WIDE), tmp_path))
    assert weights.layout == "OpenAI"
    assert weights.arch.image_encoder() == {"width": 128, "depth": 2, "heads": 2, "patch_size": 32, "embed_dim": 40}
    assert weights.arch.text_encoder() == {
        "width": 64, "depth": 3, "heads": 1, "embed_dim": 40, "context_length": 77,
    }  # fmt: skip
    assert weights.arch.grid == (3, 3)
    assert set(weights.dropped) == {"logit_scale", "input_resolution", "context_length", "vocab_size"}


def test_heads_come_from_the_config_of_a_folder(tmp_path):
    spec = {**SMALL, "heads": 4, "theads": 8}
    theirs = hugging_face(spec)
    ours = build_clip(save("hf_folder", theirs, tmp_path), (32, 32))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.get_image_features(image).pooler_output
        torch.testing.assert_close(ours.encode_image(image), expected, atol=1e-5, rtol=0)
    other = build_clip(save("openai_state", hugging_face(SMALL), tmp_path), (32, 32))
    with pytest.raises(
        ValueError, match=r"image_encoder\.heads: the file states 4, the model has 1(.|\n)*text_encoder"
    ):
        load_into(other, str(tmp_path))


def test_one_error_names_all_that_does_not_fit(tmp_path):
    state = openai_state(hugging_face(SMALL))
    model = build_clip(save("openai_state", hugging_face(SMALL), tmp_path), (32, 32))
    del state["visual.transformer.resblocks.1.mlp.c_fc.bias"]
    state["ln_final.weight"] = torch.ones(7)
    state["extra.thing"] = torch.ones(2, 3)
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        load_into(model, str(tmp_path / "broken.pt"))
    message = str(caught.value)
    assert str(tmp_path / "broken.pt") in message
    assert "image_encoder.layers.1.ffn.layers.0.0.bias: missing in the file, (192,) in the model" in message
    assert "text_encoder.final_norm.weight: (7,) in the file, (32,) in the model" in message
    assert "extra.thing: (2, 3) in the file, not in the model" in message


def test_other_sizes_than_the_config_are_named(tmp_path):
    model = build_clip(save("openai_state", hugging_face(WIDE), tmp_path), (96, 96))
    path = save("openai_state", hugging_face(SMALL), tmp_path)
    with pytest.raises(ValueError, match=r"and \d+ more(.|\n)*image width 48, 3 blocks, patch 8, grid 4x4"):
        load_into(model, path)


def test_wrong_files_are_named(tmp_path):
    def expect(content, message, name="wrong.pt"):
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=message) as caught:
            load_clip(str(tmp_path / name))
        assert name in str(caught.value)

    expect({"visual.layer1.0.conv1.weight": torch.ones(1)}, "ResNet")
    expect({"fc.weight": torch.ones(1)}, r"no CLIP.*fc\.weight")
    expect([1, 2], "no state dict")
    expect({"visual.class_embedding": torch.ones(8)}, "no tensor for")
    expect({"weights": Node()}, "cannot be read as weights")
    state = openai_state(hugging_face(SMALL))
    expect({**state, "visual.positional_embedding": torch.ones(1 + 15, 48)}, "15 patch positions are no square")
    for name in ("cut.pt", "cut.safetensors", "archive.pt"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_clip(str(tmp_path / name))
    save("openai_archive", hugging_face(SMALL), tmp_path)
    (tmp_path / "half.pt").write_bytes((tmp_path / "clip.pt").read_bytes()[:50_000])
    with pytest.raises(ValueError, match=r"half\.pt cannot be read"):
        load_clip(str(tmp_path / "half.pt"))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_clip(str(tmp_path))
    for name in ("none.pth", "./a/b", "a/b/c", "folder/clip.pt"):
        with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
            load_clip(name)


def test_another_activation_is_refused(tmp_path):
    save("hf_folder", hugging_face(SMALL), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"vision_config\.hidden_act is 'gelu'"):
        load_clip(str(tmp_path))


def test_archive_code_is_not_run(tmp_path):
    """A pickle in an archive that names a function gets an inert stub instead."""
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps({"x": Evil()}, protocol=2))
        archive.writestr("evil/constants.pkl", b"")
    with pytest.raises(ValueError, match="no CLIP"):
        load_clip(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"), ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "refused")],
)
def test_unreachable_hub_says_which_file_to_put_where(variables, reason, tmp_path):
    code = "from mmreid_text.models.checkpoints import load_clip; load_clip('openai/clip-vit-base-patch16')"
    env = {**{k: v for k, v in os.environ.items() if "proxy" not in k.lower()}, "HF_HOME": str(tmp_path), **variables}
    run = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("FileNotFoundError")
    folder = tmp_path / "openai" / "clip-vit-base-patch16"
    for part in (reason, str(folder), "config.json", "model.safetensors", "HF_HOME", str(tmp_path / "hub")):
        assert part in last


def test_folder_by_a_hub_name_is_taken(tmp_path, monkeypatch):
    folder = tmp_path / "openai" / "clip-vit-base-patch16"
    folder.mkdir(parents=True)
    save("hf_folder", hugging_face(SMALL), folder)
    monkeypatch.chdir(tmp_path)
    assert load_clip("openai/clip-vit-base-patch16").arch.width == 48


def test_hub_cache_is_read_without_a_connection(tmp_path, monkeypatch):
    from huggingface_hub import constants

    repo = tmp_path / "models--owner--tiny"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    save("hf_bin_folder", hugging_face(SMALL), snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code = tmp_path / "elsewhere"
    code.mkdir()
    monkeypatch.chdir(code)
    assert load_clip("owner/tiny").arch.patch_size == 8


def test_tensors_of_shared_storage_and_strides_survive_an_archive(tmp_path):
    base = torch.arange(12.0).view(3, 4)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("whole", base)
            self.register_buffer("turned", base.t())
            self.register_buffer("part", base[1:, 2])
            self.register_buffer("flags", torch.tensor([True, False]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    from mmreid_text.models.torchscript import is_torchscript, read_torchscript

    torch.jit.save(torch.jit.script(Shared()), str(tmp_path / "s.pt"))
    assert is_torchscript(tmp_path / "s.pt")
    tensors = read_torchscript(tmp_path / "s.pt")
    expected = {"whole": base, "turned": base.t(), "part": base[1:, 2], "flags": torch.tensor([True, False])}
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(tensors[name], value)


def test_quick_gelu_equals_its_definition():
    from mmreid_text.models.backbones.quick_gelu import QuickGELU

    x = torch.linspace(-30, 30, 500, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(QuickGELU()(x), x * torch.sigmoid(1.702 * x))
    (ours,) = torch.autograd.grad(QuickGELU()(x).sum(), x)
    (theirs,) = torch.autograd.grad((x * torch.sigmoid(1.702 * x)).sum(), x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(QuickGELU()(torch.tensor([-1e4, 1e4])), torch.tensor([0.0, 1e4]))
