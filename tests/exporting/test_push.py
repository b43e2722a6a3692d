"""An exported folder goes to the hub and comes back from it, by the hub's own client over HTTP to a
stand-in on this machine: uploaded as it is, loaded by the card's lines and by --init hf-hub:, and
one line where the hub refuses.

Each needs a process of its own, as the client reads its address when it is imported.
"""

import json
import re

import pytest
from exported_networks import SMALL, checkpoint_of, logits_of, some_pixels
from fresh_process import answer_of
from hub_server import TOKEN, serving

# Uploads, loads the network by the lines of the card, and takes its weights for --init.
THERE_AND_BACK = """
import io, json, re, sys
from contextlib import redirect_stdout, redirect_stderr
from astroformer import cli
said = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.main(words)
    said.append([status, out.getvalue(), err.getvalue()])
found = None
if len(sys.argv) > 2:
    import torch
    from huggingface_hub import hf_hub_download
    card = open(hf_hub_download(sys.argv[2], "README.md")).read()
    exec(re.search("```python\\n(.*?)```", card, re.S)[1])
    from astroformer.training import initial
    name = model.pretrained_cfg["architecture"]
    weights = initial.weights_of("hf-hub:" + sys.argv[2], name)
    told = initial.fingerprint(weights), initial.fingerprint(model.state_dict())
    pixels = torch.load(sys.argv[3])
    mean, std = (torch.tensor(prepare.transforms[-1].__dict__[one]).view(3, 1, 1)
                 for one in ("mean", "std"))
    with torch.no_grad():
        logits = model((pixels / 255 - mean) / std)
    found = [card, told, weights.described, logits.tolist()]
print(json.dumps([said, found]))
"""


def in_a_process(words, *more, **variables):
    quiet = dict(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_ETAG_TIMEOUT="2")
    return answer_of(THERE_AND_BACK, json.dumps(words), *more, **quiet | variables)


@pytest.fixture
def hub():
    with serving() as found:
        yield found


def test_a_folder_goes_to_the_hub_and_comes_back(hub, tmp_path):
    import torch

    path = checkpoint_of(tmp_path / "run", *SMALL["astroformer"])
    pixels = some_pixels(2)
    torch.save(pixels, tmp_path / "pixels.pt")
    command = [
        "export",
        str(path),
        "--to",
        "hf",
        "--out",
        str(tmp_path / "out"),
        "--push",
        "me/mine",
    ]
    words = [[*command, "--private"], [*command, "--force"]]  # the second finds it there
    said, found = in_a_process(
        words,
        "me/mine",
        str(tmp_path / "pixels.pt"),
        HF_ENDPOINT=hub.address,
        HF_TOKEN=TOKEN,
        HF_HOME=str(tmp_path / "home"),
    )
    for status, printed, error in said:
        assert status == 0, error
        assert printed.rstrip().endswith(f"uploaded to {hub.address}/me/mine")
    repository = hub.repositories["me/mine"]
    assert (
        repository["private"]
        and repository["commits"] == ["astroformer_pico, run 0123456789ab"] * 2
    )
    for name, content in repository["files"].items():
        assert (tmp_path / "out" / name).read_bytes() == content
    assert set(repository["files"]) == {"README.md", "config.json", "model.safetensors"}
    assert any(line.startswith("PUT /objects/") for line in hub.asked)  # the weights, by checksum

    card, fingerprints, described, logits = found
    assert "model = timm.create_model('hf-hub:me/mine', pretrained=True).eval()" in card
    assert str(tmp_path) not in card
    assert fingerprints[0] == fingerprints[1]
    assert described == {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.2, 0.25, 0.3],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
    }
    assert torch.allclose(torch.tensor(logits), logits_of(path, pixels), rtol=0, atol=1e-5)


def test_what_the_hub_refuses_is_said_in_one_line_and_the_folder_stays(hub, tmp_path):
    path = checkpoint_of(tmp_path / "run", *SMALL["logistic"])
    out = tmp_path / "out"
    command = ["export", str(path), "--to", "hf", "--out", str(out), "--push", "me/mine"]
    nowhere = [*command[:-1], "no/good/name", "--force"]
    [first, second], _ = in_a_process(
        [command, nowhere],
        HF_ENDPOINT=hub.address,
        HF_TOKEN="hf_of_somebody_else",
        HF_HOME=str(tmp_path / "home"),
    )
    assert first[0] == second[0] == 2
    assert re.search("me/mine could not be uploaded .*401.*stays there.*--force", first[2])
    assert "no/good/name could not be uploaded" in second[2]
    for _, printed, error in (first, second):
        assert error.count("\n") == 1 and printed.startswith("wrote")
    assert sorted(one.name for one in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert not hub.repositories
