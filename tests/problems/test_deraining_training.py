"""Deraining: parts, records and what is rebuilt of them."""

import dataclasses

import pytest
import torch

from bmo import record
from bmo.errors import DomainError, RecordError, TrainingError
from bmo.problems import deraining as rain
from bmo.problems import learned
from bmo.problems.deraining import measuring, pieces, report, trained
from bmo.record import weights
from tests.problems.rain import pairs, small
from tests.problems.runs import check_worst_case, ends_alike_in_pieces, found_again, train, use


class TestRun:
    def run(self, folder, monkeypatch, *options, **changes):
        use(monkeypatch, "deraining", report, small(**changes))
        return train("deraining", folder, *options)

    def test_the_command_writes_a_valid_record(self, tmp_path, monkeypatch, capsys):
        assert self.run(tmp_path, monkeypatch) == 0
        found = record.read(tmp_path / "deraining.page.json")
        shown = capsys.readouterr().out
        assert "PSNR in dB" in shown and "record: " in shown and "at depth 4:" in shown
        for method, known in (("bmo", "by construction"), ("ena", "none")):
            for channel in ("Y", "RGB"):
                (entry,) = found.select(method=method, metric="psnr", dataset="page-heavy",
                                        channel=channel, depth=4)  # fmt: skip
                assert entry["setting"]["certified"] == known and entry["n"] == 1
            check_worst_case(found, method)
            assert found.value(method=method, metric="held_out_psnr", kind="light") > 10
        assert len(found.curves["case psnr/page-light/1/bmo"]) == 4
        assert len(found.curves["guide loss"]) == 3
        assert (tmp_path / "deraining.page.bmo.safetensors").exists()

    def test_a_run_in_pieces_ends_with_the_same_numbers(self, tmp_path, monkeypatch, capsys):
        use(monkeypatch, "deraining", report, small())
        assert ends_alike_in_pieces("deraining", "gkm", tmp_path, capsys)

    def test_methods_share_the_guide_and_the_layers(self, tmp_path):
        shelf = pieces.Pieces(small(), tmp_path)
        first = shelf.guide(0)
        other = pieces.Pieces(small(rate=5e-4, mu=0.2, case_depths=(0, 3)), tmp_path, resume=True)
        assert other.guide(0) == first
        with pytest.raises(TrainingError, match="another run"):
            pieces.Pieces(small(widths=(6,)), tmp_path, resume=True).guide(0)
        with pytest.raises(TrainingError, match="another run"):
            _ = pieces.Pieces(small(layers=3), tmp_path, resume=True).weather
        shelf.trained("gkm", 0)
        with pytest.raises(TrainingError, match="another run"):
            other.trained("gkm", 0)

    def test_mu_is_a_setting_of_the_joint_methods_alone(self, tmp_path):
        shelf = pieces.Pieces(small(), tmp_path)
        for method in ("bmo", "gkm"):
            shelf.trained(method, 0)
        other = pieces.Pieces(small(mu=0.2), tmp_path, resume=True)
        other.trained("gkm", 0)
        with pytest.raises(TrainingError, match="another run"):
            other.trained("bmo", 0)

    def test_a_recorded_method_is_rebuilt(self, tmp_path, monkeypatch):
        assert self.run(tmp_path, monkeypatch, "--method", "bmo", "--record") == 0
        found_again(monkeypatch, tmp_path, "deraining.page", "bmo")
        model = trained.trained("page", "bmo")
        assert model.settings.maps == 3 and model.settings.iterations == 4
        shelf = pieces.Pieces(small(methods=("bmo",)), tmp_path, resume=True)
        one, two = (m.restore(pairs().rainy) for m in (model, shelf.trained("bmo", 0)[0]))
        assert torch.equal(one, two)
        with pytest.raises(RecordError, match="method of bmo"):
            trained.trained("page", "ena")

    def test_real_pairs_count_in_every_choice(self, tmp_path, monkeypatch):
        shelf = pieces.Pieces(small(), tmp_path)
        clean, rainy = pairs(1)
        whole = dataclasses.replace(shelf.pictures, real_held_out=[(rainy[0], clean[0])])
        monkeypatch.setitem(shelf.__dict__, "pictures", whole)
        model = rain.build("bmo", small())
        found = shelf.worth(model, 2)
        assert set(found) == {"light", "heavy", "real"}
        assert found["real"] == measuring.worth(model, [(rainy[0], clean[0])], 2)

    def test_numbers_have_a_rate_of_their_own(self):
        model = rain.build("bmo", small())
        groups = learned.adam(model, 1e-4, 1e-2, pieces.NUMBERS).param_groups
        own = {id(p) for p in groups[1]["params"]}
        names = {n for n, p in model.named_parameters() if id(p) in own}
        assert names == {"step.weight.raw", "step.theta.raw", "pull.numbers"}
        assert [g["lr"] for g in groups] == [1e-4, 1e-2]

    @pytest.mark.parametrize("profile", ["small", "full"])
    def test_weights_fit_in_a_record(self, profile):
        model = rain.build("bmo", rain.settings_of(profile))
        size = 4 * sum(p.numel() for p in model.parameters())
        assert 1e6 < size < 0.9 * weights.LARGEST

    def test_settings_of_a_profile(self):
        assert rain.settings_of("full") is rain.FULL
        with pytest.raises(DomainError, match="huge"):
            rain.settings_of("huge")
        for s in (rain.PAGE, rain.SMALL, rain.FULL):
            assert s.depths[-1] == s.iterations in s.case_depths
            assert s.heavy == 0.5
