"""Other names, units and lists of aberrations, against Haider's formula and Krivanek's Cartesian one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from stemphony.errors import ConfigError
from stemphony.experiment.configuration import validate
from stemphony.physics.probe import Aberrations, aberration_phase

WAVELENGTH = 0.0251

# Name: power of conj(ω), power of ω and divisor of the term of Haider's function; Krivanek's coefficient.
HAIDER_TERMS = {
    "A1": (2, 0, 2, "C12"), "B2": (2, 1, 1, "C21"), "A2": (3, 0, 3, "C23"), "C3": (2, 2, 4, "C30"),
    "S3": (3, 1, 1, "C32"), "A3": (4, 0, 4, "C34"), "B4": (3, 2, 1, "C41"), "D4": (4, 1, 1, "C43"),
    "A4": (5, 0, 5, "C45"), "C5": (3, 3, 6, "C50"), "S5": (4, 2, 1, "C52"), "R5": (5, 1, 1, "C54"),
    "A5": (6, 0, 6, "C56"),
}  # fmt: skip


def given(**probe: Any) -> dict[str, float]:
    """The coefficients that a config with these keys of the probe has."""
    config = {"simulation": {"name": "x"}, "specimen": {"file": "x.cif"}, "probe": probe}
    found: dict[str, float] = validate(config)["probe"]["aberrations"]
    return found


def listed(*values: str, notation: str = "haider", **keys: Any) -> dict[str, float]:
    return given(measured_aberrations={"notation": notation, "values": list(values), **keys})


def phase(coefficients: dict[str, float], alpha: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """χ of Eq. (P7) of coefficients in the keys of the config."""
    numbers = {
        key.split("_")[0]: 10 * value if key.endswith("nm") else math.radians(value)
        for key, value in coefficients.items()
    }
    return aberration_phase(Aberrations(**numbers), WAVELENGTH, alpha / WAVELENGTH, azimuth)


def refused(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


@pytest.mark.parametrize("name", HAIDER_TERMS)
def test_a_haider_coefficient_has_the_phase_of_haiders_formula(name):
    """χ = (2π/λ) Re{C ω̄ᵃ ωᵇ / d} with ω = α exp(iφ), evaluated as complex numbers."""
    conjugates, powers, divisor, _ = HAIDER_TERMS[name]
    alpha, azimuth = np.array([0.005, 0.02, 0.03]), np.array([0.3, 2.0, -1.4])
    omega = alpha * np.exp(1j * azimuth)
    angle = 0.0 if name[0] == "C" else 40.0
    coefficient = 70.0 * np.exp(1j * math.radians(angle))  # Å
    expected = 2 * math.pi / WAVELENGTH * (coefficient * omega.conj() ** conjugates * omega**powers / divisor).real
    line = f"{name} 7 nm" + (f" {angle} deg" if angle else "")
    assert phase(listed(line, angles="phase"), alpha, azimuth) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("symbol", ["C12", "C21", "C23", "C32", "C34", "C41", "C43", "C45", "C52", "C54", "C56"])
def test_cartesian_parts_have_the_phase_of_their_cosine_and_sine(symbol):
    """χ = (2π/λ) αⁿ⁺¹/(n+1) (a cos mφ + b sin mφ)."""
    n, m = int(symbol[1]), int(symbol[2])
    alpha, azimuth = np.array([0.005, 0.02, 0.03]), np.array([0.3, 2.0, -1.4])
    a, b = -30.0, 50.0
    expected = 2 * math.pi / WAVELENGTH * alpha ** (n + 1) / (n + 1)
    expected = expected * (a * np.cos(m * azimuth) + b * np.sin(m * azimuth))
    found = listed(f"{symbol}a -3 nm", f"C{n},{m}b 5 nm", notation="krivanek")
    assert phase(found, alpha, azimuth) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in HAIDER_TERMS if name[0] != "C"])
def test_an_azimuth_of_a_list_is_where_the_phase_is_largest(name):
    symbol = HAIDER_TERMS[name][3]
    found = listed(f"{name} 3 nm 20 deg", angles="azimuth")
    around = np.radians(np.arange(0, 360 / int(symbol[2]), 0.5))
    values = phase(found, np.full(around.shape, 0.02), around)
    assert math.degrees(around[values.argmax()]) == pytest.approx(20.0, abs=0.3)


@pytest.mark.parametrize("angles", ["azimuth", "phase"])
def test_a_list_that_is_turned_or_mirrored_turns_and_mirrors_the_phase(angles):
    lines = ["A1 3 nm 20 deg", "B2 30 nm 80 deg", "A2 40 nm 10 deg", "S3 1 um -50 deg"]
    alpha, azimuth = np.full(50, 0.02), np.linspace(0, 2 * math.pi, 50)
    straight = listed(*lines, angles=angles)
    turned = listed(*lines, angles=angles, rotation_deg=25.0)
    mirrored = listed(*lines, angles=angles, clockwise=True)
    assert phase(turned, alpha, azimuth + math.radians(25)) == pytest.approx(phase(straight, alpha, azimuth))
    assert phase(mirrored, alpha, -azimuth) == pytest.approx(phase(straight, alpha, azimuth))


def test_names_and_units_change_no_number():
    """So that another name of an aberration runs no job again."""
    plain = {"C30_nm": 1200000.0, "C12_nm": 2.5, "phi12_deg": 30.0, "C21_nm": 30.0}
    assert given(aberrations={"Cs_mm": 1.2, "A1_angstrom": 25, "phiA1_deg": 30, "B2_nm": 10}) == plain
    assert given(aberrations={"C3_um": 1200, "C12_angstrom": 25, "phi12_deg": 30, "B2_um": 0.01}) == plain
    assert listed("C3 1.2 mm", "A1 25 Å 30 deg", "B2 10nm 0 mrad", angles="azimuth") == {**plain, "phi21_deg": 0.0}
    assert listed("C30 1.2e3 µm", notation="krivanek") == {"C30_nm": 1200000.0}


def test_a_config_that_is_validated_again_stays_as_it_is():
    config = {"simulation": {"name": "x"}, "specimen": {"file": "x.cif"}}
    probe = {"measured_aberrations": {"notation": "haider", "values": ["B2 10 nm 80 deg"], "angles": "phase"}}
    once = validate({**config, "probe": probe})
    assert validate(once) == once
    assert once["probe"]["measured_aberrations"] is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"aberrations": {"Cs_mm": 1.2, "C30_nm": 5}}, r"Cs_mm`: is the same aberration as `C30_nm`"),
        ({"aberrations": {"C12_nm": 1, "phi12_deg": 3, "phiA1_deg": 4}}, r"is the same aberration as `phi12_deg`"),
        ({"aberrations": {"phiB2_deg": 4}}, r"an angle without its coefficient; add C21_nm"),
        (
            {"aberrations": {"Cs_mm": 1.2}, "measured_aberrations": {"notation": "haider", "values": ["C3 1 mm"]}},
            "given together with `probe.aberrations`",
        ),
    ],
)
def test_an_aberration_that_is_given_twice_is_refused(keys, words):
    refused(lambda: given(**keys), words)


@pytest.mark.parametrize(
    ("notation", "lines", "words"),
    [
        ("haider", ["A1 2 nm 3 deg", "A1 2 nm 5 deg"], r"values\[1\].*C12 stands in the list already"),
        ("krivanek", ["C12a 2 nm", "C12 2 nm 5 deg"], r"values\[1\].*C12 stands in the list already"),
        ("krivanek", ["C12a 2 nm", "C12a 2 nm"], r"values\[1\].*C12 stands in the list already"),
        ("haider", ["C1 2 nm"], r"values\[0\].*defocus with the opposite sign"),
        ("krivanek", ["C1,0 2 nm"], "defocus with the opposite sign"),
        ("haider", ["C12 2 nm 3 deg"], "allowed with `notation: haider`: A1, B2"),
        ("krivanek", ["A1 2 nm 3 deg"], "allowed with `notation: krivanek`: C12"),
        ("haider", ["A1 2 nm"], "has a direction. Add its angle"),
        ("haider", ["C3 2 nm 5 deg"], "has no angle"),
        ("krivanek", ["C12a 2 nm 5 deg"], "has no angle"),
        ("krivanek", ["C30a 2 nm"], "allowed with `notation: krivanek`"),
        ("haider", ["A1 = 2"], "a name, a length with unit"),
        ("haider", ["A1 2 furlong 3 deg"], "a name, a length with unit"),
    ],
)
def test_a_line_that_is_no_aberration_is_refused(notation, lines, words):
    refused(lambda: listed(*lines, notation=notation, angles="azimuth"), words)


def test_angles_of_a_list_need_a_convention():
    refused(lambda: listed("A1 2 nm 3 deg"), r"measured_aberrations\.angles.*is missing.*azimuth.*phase")
    assert listed("C3 1 mm") == {"C30_nm": 1e6}
