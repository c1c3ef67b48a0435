"""kipoi_interpret with our models: gradients, gradient x input and mutagenesis, by its API and by our verbs."""

import importlib.util
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from genome_files import random_sequence, write_fasta
from zoo_parts import make_lively_parts, use_kipoi_home

from kipoi_borzoi.cli import main

needs_interpret = pytest.mark.skipif(
    importlib.util.find_spec("kipoi_interpret") is None, reason="kipoi_interpret is not installed"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with ``lab/mine``, a genome and regions; Kipoi's configuration lies in it."""
    from test_veff2 import _small_params

    from kipoi_borzoi.zoo import zoo_import, zoo_init

    folder = tmp_path_factory.mktemp("interpret")
    with pytest.MonkeyPatch.context() as patch:
        use_kipoi_home(folder / "home", patch)
        zoo_init(folder / "zoo")
        zoo_import("lab/mine", **make_lively_parts(folder / "parts", _small_params()), head="human", zoo=folder / "zoo")
        write_fasta(folder / "genome.fa", {"chr1": random_sequence(3000, 1)})
        (folder / "regions.bed").write_text("chr1\t1500\t1501\nchr1\t1800\t1801\n")
        patch.chdir(folder)
        yield folder


LOADER = ["--dataloader_args", "intervals_file=regions.bed", "fasta_file=genome.fa"]


@pytest.fixture(scope="module")
def model(home):
    import kipoi

    return kipoi.get_model("lab/mine/logsum", source="borzoi")


@pytest.fixture(scope="module")
def windows(home, model):
    return model.default_dataloader(intervals_file="regions.bed", fasta_file="genome.fa").load_all()["inputs"]


USES = """
import json, sys
import numpy as np
import kipoi_interpret
from kipoi_interpret.importance_scores.gradient import GradientXInput, Saliency

class Model:
    def input_grad(self, x, **options):
        return np.array([[-2.0, 3.0]])

def outcome(use):
    try:
        return ["ok", use()]
    except Exception as error:
        return [type(error).__name__, str(error)]

x = np.array([[1.0, 0.0]])
uses = {
    "name_abstract_collections": lambda: GradientXInput(Model()).score(x).tolist(),
    "call_gradient_of_saliency": lambda: Saliency(Model()).score(x).tolist(),
    "read_dataloader_args_as_kipoi_does": lambda: [
        module.parse_json_file_str(["a=b"])["a"] for module in (kipoi_interpret.cli, kipoi_interpret.importance_scores.cli)
    ] + [kipoi_interpret.cli.parse_json_file_str("{c: 1}")["c"]],
}
from kipoi_borzoi.kipoi_compat import applied_fixes, mend_loaded_tools
before = {name: outcome(use) for name, use in uses.items()}
mend_loaded_tools()
mend_loaded_tools()
after = {name: outcome(use) for name, use in uses.items()}
print("REPORT " + json.dumps([before, after, applied_fixes()]))
"""


@needs_interpret
def test_fixes_are_needed_and_do_what_they_say():
    done = subprocess.run([sys.executable, "-c", USES], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, after, applied = json.loads(done.stdout.split("REPORT ", 1)[1])
    assert {name: outcome[0] for name, outcome in before.items()} == {
        "name_abstract_collections": "AttributeError",
        "call_gradient_of_saliency": "TypeError",
        "read_dataloader_args_as_kipoi_does": "AttributeError",
    }
    assert after == {
        "name_abstract_collections": ["ok", [[-2.0, 0.0]]],
        "call_gradient_of_saliency": ["ok", [[2.0, 3.0]]],
        "read_dataloader_args_as_kipoi_does": ["ok", ["b", "b", 1]],
    }
    assert applied == {"kipoi_interpret": list(before)}


@needs_interpret
def test_gradients_by_the_api_are_those_of_the_model(model, windows):
    from kipoi_interpret.importance_scores import feature_importance
    from kipoi_interpret.importance_scores.gradient import Gradient, GradientXInput, Saliency

    expected = model.input_grad(windows, filter_idx=2, avg_func="sum")
    assert np.abs(expected).max() > 0
    np.testing.assert_array_equal(Gradient(model, filter_idx=2).score(windows), expected)
    np.testing.assert_array_equal(GradientXInput(model, filter_idx=2).score(windows), expected * windows)
    np.testing.assert_array_equal(Saliency(model, filter_idx=2).score(windows), np.abs(expected))
    loader = model.default_dataloader(intervals_file="regions.bed", fasta_file="genome.fa")
    found = feature_importance(model, loader, "grad*input", {"filter_idx": 2}, batch_size=1)["importance_scores"]
    np.testing.assert_allclose(found, expected * windows, rtol=1e-5, atol=1e-7)


def mutants_by_hand(model, window, positions):
    """alt - ref, (positions, 4, tracks), one mutant at a time."""
    ref = model.predict_on_batch(window[np.newaxis])[0]
    found = np.empty((len(positions), 4, len(ref)))
    for row, position in enumerate(positions):
        for base in range(4):
            mutant = window.copy()
            mutant[position] = np.eye(4)[base]
            found[row, base] = model.predict_on_batch(mutant[np.newaxis])[0] - ref
    return found


@needs_interpret
def test_mutagenesis_by_the_api(model, windows):
    from kipoi_interpret.importance_scores.ism import Mutation

    found = Mutation(model, "seq", scores=["diff"], batch_size=256, output_sel_fn=lambda y: y[3]).score(windows[:1])[0]
    assert len(found) == 512
    expected = mutants_by_hand(model, windows[0], [255, 256])
    for row, position in enumerate((255, 256)):
        for base in range(4):
            if windows[0, position, base]:
                assert found[position][base] is None
            else:
                np.testing.assert_allclose(found[position][base][0], expected[row, base, 3], atol=2e-6)
    assert np.abs(expected).max() > 1e-4


@needs_interpret
def test_verbs_write_the_same(home, model, windows, capsys):
    assert main(["interpret", "grad", "lab/mine/logsum", "--source", "borzoi", "-f", "2", *LOADER, "-o", "grad.h5"]) == 0
    assert main(["interpret", "grad_input", "lab/mine/logsum", "-f", "2", *LOADER, "-o", "gi.h5"]) == 0
    ism = ["interpret", "ism", "lab/mine/logsum", "--source", "borzoi", "--model_input", "seq", "--positions", "255", "258"]
    assert main([*ism, *LOADER, "-o", "ism.h5"]) == 0
    assert main([*ism, *LOADER, "-o", "ism.h5"]) == 0  # replaces
    expected = model.input_grad(windows, filter_idx=2, avg_func="sum")
    with h5py.File("grad.h5") as grad, h5py.File("gi.h5") as gi, h5py.File("ism.h5") as ism:
        np.testing.assert_allclose(grad["grads"][:], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(gi["importance_scores"][:], expected * windows, rtol=1e-5, atol=1e-7)
        assert gi["metadata/ranges/start"][:].tolist() == [1244, 1544]
        assert ism["scores"].shape == (2, 3, 4, 1, 6)
        hand = mutants_by_hand(model, windows[1], [255, 256, 257])
        np.testing.assert_allclose(ism["scores"][1, :, :, 0], hand, atol=2e-6)


@needs_interpret
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["grad", "lab/mind/logsum", "--source", "borzoi", *LOADER, "-o", "o.h5"], "lab/mind/logsum doesn't exist"),
        (["grad", "lab/mine/logsum", "--source", "borzoi", *LOADER, "-o", "no/o.h5"], "there is no folder"),
        (["grad_input", "lab/mind/logsum", *LOADER, "-o", "o.h5"], "lab/mind/logsum doesn't exist"),
        (["grad_input", "lab/mine/logsum", "--source", "nowhere", *LOADER, "-o", "o.h5"], "source=nowhere"),
        (["grad_input", "lab/mine/logsum", *LOADER, "-o", "out.tsv"], "ends in .h5"),
        (["grad_input", "lab/mine/logsum", "-f", "two", *LOADER, "-o", "o.h5"], "filter_idx 'two'"),
        (["grad_input", "lab/mine/logsum", "--dataloader_args", "absent.json", "-o", "o.h5"], "--dataloader_args"),
        (
            ["ism", "lab/mine/logsum", "--source", "borzoi", "--model_input", "seq", "--positions", "9", "9", *LOADER, "-o", "i.h5"],
            "expected 0 <= START < END",
        ),
        (
            ["ism", "lab/mine/logsum", "--source", "borzoi", "--model_input", "seq", "--positions", "500", "600", *LOADER, "-o", "i.h5"],
            "the window has 512 bp",
        ),
    ],
)
def test_verbs_say_what_is_wrong(home, capsys, arguments, message):
    before = sorted(path.name for path in home.iterdir())
    assert main(["interpret", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err and "fault of the program" not in err
    assert sorted(path.name for path in home.iterdir()) == before


@needs_interpret
def test_a_reason_that_kipoi_interpret_only_logs_is_shown(home, capfd):
    with pytest.raises(SystemExit):
        main(["interpret", "grad", "lab/mine/logsum", "--source", "borzoi", *LOADER, "-o", "out.xyz"])
    assert "File ending: xyz" in capfd.readouterr().err


def test_without_kipoi_interpret_the_verb_names_the_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kipoi_interpret", None)
    assert main(["interpret", "grad", "lab/mine/logsum", "-o", "o.h5"]) == 1
    assert "pip install --no-deps kipoi_interpret==0.1.2" in capsys.readouterr().err


def test_help_needs_nothing():
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    for words in (["interpret", "--help"], ["interpret", "grad_input", "--help"], ["veff", "map", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "kipoi_borzoi.cli", *words], capture_output=True, text=True, timeout=60, env=environment
        )
        assert done.returncode == 0 and "kipoi-borzoi" in done.stdout
