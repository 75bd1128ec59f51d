"""The bills of materials and the table of licences: made of the locks, valid, and true of PyAV's wheel."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import av
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy import sbom
from deploy.licences import BY_HAND, RECORD, all_locked, licences, spdx
from tests.deploy.manifests import REPOSITORY
from tests.deploy.test_images import locked

IMAGES = sorted(sbom.IMAGES)


def bill(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / "deploy" / "sbom" / f"{name}.cdx.json").read_text())
    return found


def inside(name: str) -> list[str]:
    (pyav,) = (component for component in bill(name)["components"] if component["name"] == "av")
    return [part["name"] for part in pyav["components"]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the bills are made of, and of the bills."""
    for folder in ("deploy", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__", "kubernetes")
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=ignored)
    (tmp_path / "docs").mkdir()
    shutil.copy(REPOSITORY / sbom.TABLE, tmp_path / sbom.TABLE)
    return tmp_path


def test_what_is_committed_matches_the_locks(checkout: Path) -> None:
    assert sbom.main(["--check"], REPOSITORY) == sbom.main(["--check"], checkout) == 0


@pytest.mark.parametrize("name", IMAGES)
def test_a_bill_is_valid(name: str) -> None:
    text = (REPOSITORY / "deploy" / "sbom" / f"{name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


@pytest.mark.parametrize("name", IMAGES)
def test_a_bill_lists_what_the_locks_of_its_image_pin(name: str) -> None:
    pins = [locked(f"{lock}.lock") for lock in sbom.IMAGES[name].locks]
    held = {component["name"]: component["version"] for component in bill(name)["components"]}
    elsewhere = {"pywin32", "waitress", "colorama"}  # other systems'
    assert set(held) | elsewhere >= set().union(*pins) >= set(held)
    assert all(any(version in pin.get(package, ()) for pin in pins) for package, version in held.items())


def test_the_images_of_the_dockerfile_have_a_bill_each() -> None:
    targets = re.findall(r"(?m)^#   ([a-z]+) ", (REPOSITORY / "deploy" / "Dockerfile").read_text())
    assert set(targets) | {"triton-lgpl"} == set(IMAGES)


def test_another_release_in_a_lock_is_noticed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = checkout / "requirements" / "triton-image.lock"
    lock.write_text(re.sub(r"(?m)^rich==\S+", "rich==99.1", lock.read_text()))
    assert sbom.main(["--check"], checkout) == 1
    assert "rich==99.1: no licence" in capsys.readouterr().err
    record = json.loads((checkout / RECORD).read_text())
    (checkout / RECORD).write_text(json.dumps({**record, "rich==99.1": "MIT"}))
    assert sbom.main(["--check"], checkout) == 1
    said = capsys.readouterr().err
    assert set(re.findall(r"(\S+): does not match the locks: make sbom", said)) == {
        "deploy/sbom/triton.cdx.json",
        "deploy/sbom/triton-lgpl.cdx.json",
        sbom.TABLE,
    }


def test_equal_locks_give_equal_bytes() -> None:
    assert sbom.files(REPOSITORY) == sbom.files(REPOSITORY)


def test_every_locked_package_has_a_licence_and_none_is_listed_that_is_not_locked() -> None:
    packages = all_locked(REPOSITORY)
    assert all(licences(packages, REPOSITORY).values())
    keys, names = {package.key for package in packages}, {package.name for package in packages}
    record = json.loads((REPOSITORY / RECORD).read_text())
    by_hand = yaml.safe_load((REPOSITORY / BY_HAND).read_text())["by_hand"]
    assert set(record) <= keys and set(by_hand) <= names and not {key.split("==")[0] for key in record} & set(by_hand)


def test_the_page_names_every_package_that_is_copyleft() -> None:
    """All that is under a GPL, LGPL or EPL in an image, but for those that one may take under another licence."""
    page = (REPOSITORY / "docs" / "licences.md").read_text()
    packages = {package for package, locks in all_locked(REPOSITORY).items() if {*locks} & {"image", "triton-image"}}
    known = licences(packages, REPOSITORY)
    copyleft = {p.name for p, licence in known.items() if "GPL" in licence and "Apache-2.0" not in licence}
    assert copyleft == {"asyncssh", "grandalf", "psycopg2-binary", "pygit2"}
    assert all(name in page for name in copyleft)
    everything = licences(all_locked(REPOSITORY), REPOSITORY).values()
    assert not any("AGPL" in licence for licence in everything) and "no package here is under the AGPL" in page


# PyAV ----------------------------------------------------------------------------------------------------------------


LIBRARIES = {
    "ffmpeg": r"libav\w+|libsw\w+",
    "alsa-lib": "libasound",
    "dav1d": "libdav1d",
    "gmp": "libgmp",
    "gnutls": "libgnutls",
    "lame": "libmp3lame",
    "libdrm": "libdrm",
    "libunistring": "libunistring",
    "libvpl": "libvpl",
    "libvpx": "libvpx",
    "libwebp": r"libwebp\w*|libsharpyuv",
    "libxcb": r"libxcb[\w-]*|libXau",
    "nettle": "libnettle|libhogweed",
    "opencore-amr": r"libopencore-amr\w+",
    "opus": "libopus",
    "svt-av1": "libSvtAv1Enc",
    "x264": "libx264",
    "x265": "libx265",
}


def test_what_is_said_to_be_inside_of_pyavs_wheel_is_inside() -> None:
    """By the libraries that the loader finds beside the package."""
    folder = Path(av.__file__).parents[1] / "av.libs"
    if not folder.is_dir():
        pytest.skip("PyAV was not installed as a wheel with its libraries")
    files = {re.sub(r"-[0-9a-f]{8}\.so.*", "", path.name) for path in folder.iterdir()}
    assert set(LIBRARIES) == set(inside("triton")) == set(inside("cpu"))
    unnamed = {file for file in files if not any(re.fullmatch(p, file) for p in LIBRARIES.values())}
    missing = {name for name, p in LIBRARIES.items() if not any(re.fullmatch(p, file) for file in files)}
    assert (unnamed, missing) == (set(), set())


def test_pyavs_own_word_for_its_ffmpeg_is_not_to_be_believed() -> None:
    """The configure of the wheels' FFmpeg is patched: it takes x264 without --enable-gpl, and says LGPL."""
    from av._core import library_meta

    said = library_meta["libavcodec"]
    if "--enable-libx264" not in said["configuration"]:
        pytest.skip("another build of PyAV")
    assert "LGPL" in said["license"] and "--enable-gpl" not in said["configuration"]


def test_the_image_for_decoding_alone_lists_no_gpl() -> None:
    assert inside("triton-lgpl") == ["dav1d", "ffmpeg"]
    text = json.dumps(bill("triton-lgpl"))
    assert not re.search(r'"(?:expression|id|name)": "[^"]*(?<![AL])GPL', text)
    assert "x264" not in text and "x265" not in text
    assert "x264" in json.dumps(bill("triton"))


# Licences ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license_expression": "MIT AND PSF-2.0", "license": "other"}, "MIT AND PSF-2.0"),
        ({"license_expression": "LicenseRef-NVIDIA-Proprietary"}, "LicenseRef-NVIDIA-Proprietary"),
        ({"license": "BSD-2-Clause"}, "BSD-2-Clause"),
        ({"license": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"license": "BSD 3-Clause License\n\nCopyright (c) 2022, a team"}, "BSD-3-Clause"),
        ({"license": "MIT License\n\nCopyright (c) a team, Apache is named below"}, "MIT"),
        ({"license": "BSD", "classifier": ["License :: OSI Approved :: BSD License"]}, "LicenseRef-BSD"),
        ({"classifier": ["License :: OSI Approved :: MIT License", "Topic :: Video"]}, "MIT"),
        ({"classifier": ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: BSD License"]}, None),
        ({"license": "GPLv2 | EPLv1"}, None),
        ({"license": "LGPL with exceptions"}, None),
        ({}, None),
    ],
)
def test_a_licence_is_read_where_a_rule_does_and_else_left_to_a_person(
    metadata: dict[str, Any], expected: str | None
) -> None:
    assert spdx(metadata) == expected
