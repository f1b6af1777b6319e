"""The browser's runtime is taken from npm, a file or the cache, and only with its hash."""

import pytest
from browser_support import served
from page_support import FILES, TARBALL, packed, release

from anygrid.errors import FileError, UsageError
from anygrid.export.browser_runtime import RELEASE, cache_folder, registry, runtime_files

WANTED = {"ort.js": FILES["dist/ort.mjs"], "ort.wasm": FILES["dist/ort.wasm"]}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No cache, settings or network of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "NPM_CONFIG_REGISTRY",
        "npm_config_registry",
        "NPM_CONFIG_USERCONFIG",
        "npm_config_userconfig",
        "http_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_tarball_and_unpacked_folders_give_the_named_files(tmp_path):
    path = tmp_path / "r.tgz"
    path.write_bytes(TARBALL)
    assert runtime_files(path, release()) == WANTED
    for inside in ("", "package", "node_modules/onnxruntime-web"):
        for name, contents in FILES.items():
            place = tmp_path / ("at" + inside.replace("/", "")) / inside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents)
        assert runtime_files(tmp_path / ("at" + inside.replace("/", "")), release()) == WANTED
    assert not (tmp_path.parent / "outside").exists()
    assert not cache_folder().exists()


def test_fetched_once_from_the_users_registry_then_cached(tmp_path, monkeypatch):
    store = tmp_path / "npm" / "mirror" / "onnxruntime-web" / "-"
    store.mkdir(parents=True)
    (store / "onnxruntime-web-9.9.9.tgz").write_bytes(TARBALL)
    with served(tmp_path / "npm") as (address, asked):
        monkeypatch.setenv("npm_config_registry", f"{address}/mirror")
        assert runtime_files(None, release()) == WANTED
        assert runtime_files(None, release()) == WANTED
        assert asked == ["/mirror/onnxruntime-web/-/onnxruntime-web-9.9.9.tgz"]
        (cache_folder() / "onnxruntime-web-9.9.9" / "ort.wasm").write_bytes(b"other")
        assert runtime_files(None, release()) == WANTED  # a damaged cache is fetched again
        assert len(asked) == 2
        monkeypatch.setenv("npm_config_registry", f"{address}/elsewhere")
        (cache_folder() / "onnxruntime-web-9.9.9" / "ort.wasm").unlink()
        with pytest.raises(UsageError, match="HTTP 404") as caught:
            runtime_files(None, release())
        assert "--runtime onnxruntime-web-9.9.9.tgz" in caught.value.hint


def test_unreachable_registry_says_what_to_do_offline(monkeypatch):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://me:secret@127.0.0.1:9/")
    with pytest.raises(UsageError, match="no answer") as caught:
        runtime_files(None, release())
    assert "npm pack onnxruntime-web@9.9.9" in caught.value.hint
    assert "secret" not in str(caught.value)


LINKED = packed([("package/dist/ort.mjs", "/etc/passwd"), ("package/dist/ort.wasm", FILES["dist/ort.wasm"])])


@pytest.mark.parametrize(
    ("contents", "wanted", "says"),
    [
        (TARBALL[:-40], release(), "bytes with sha512-"),
        (TARBALL + b"x", release(), "bytes with sha512-"),
        (TARBALL[:60], release(TARBALL[:60]), "cannot be read"),
        (b"no archive", release(b"no archive"), "cannot be read"),
        (packed([("package/README", b"")]), release(packed([("package/README", b"")])), "cannot be read"),
        (LINKED, release(LINKED), "a plain file"),
        (TARBALL, release(**{"dist/ort.mjs": b"other"}), "another release"),
    ],
    ids=["cut", "longer", "cut but pinned", "no archive", "without the files", "a link", "other contents"],
)
def test_what_is_not_the_pinned_release_is_refused(tmp_path, contents, wanted, says):
    path = tmp_path / "r.tgz"
    path.write_bytes(contents)
    with pytest.raises(FileError, match=says) as caught:
        runtime_files(path, wanted)
    assert "--runtime" in caught.value.hint


def test_folders_without_it_or_of_another_release_are_refused(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        runtime_files(tmp_path, release())
    with pytest.raises(FileError, match="no such file"):
        runtime_files(tmp_path / "absent", release())
    (tmp_path / "dist").mkdir()
    for name in FILES:
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(FileError, match="another release"):
        runtime_files(tmp_path, release())


def test_registry_is_that_of_npm(tmp_path, monkeypatch):
    assert registry() == "https://registry.npmjs.org/"
    (tmp_path / ".npmrc").write_text('# registry=https://no/\nregistry = "https://${MIRROR}/npm"\n//h/:_authToken=t\n')
    monkeypatch.setenv("MIRROR", "mirror.example")
    assert registry() == "https://mirror.example/npm/"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example/")
    assert registry() == "https://other.example/"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc/")
    with pytest.raises(UsageError, match="NPM_CONFIG_REGISTRY"):
        registry()


def test_pin_is_whole():
    assert RELEASE.integrity.startswith("sha512-")
    assert all(len(text) == 88 for text in (RELEASE.integrity[7:], *(h for _, h in RELEASE.files.values())))
    assert set(RELEASE.files) == {"ort.js", "ort.wasm"}
