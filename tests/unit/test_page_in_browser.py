"""The page computes the surrogate's numbers in a real browser. Needs Chromium, and the runtime in the cache or in ANYGRID_ORT_WEB."""

import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from browser_support import CHROMIUM, browser, served
from test_exported_files import CELLS, LINE, PLANE, SPACE, latent, made, textbook

from anygrid.errors import AnygridError
from anygrid.export.browser_runtime import RELEASE, cache_folder, runtime_files
from anygrid.export.web_page import write_page
from anygrid.fields import Variable
from anygrid.grid import Sphere
from anygrid.surrogate import Surrogate

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

NUMBERS = """(() => {
  const text = (x) => btoa(Array.from(new Uint8Array(x.buffer, x.byteOffset, x.byteLength), (b) => String.fromCharCode(b)).join(""));
  const { shape, a, u, steps } = window.anygrid.result;
  return { shape, steps, a: text(a), u: text(u) };
})()"""
GLOBE = Sphere.equiangular(12, 24)


@pytest.fixture(scope="module")
def runtime():
    given = os.environ.get("ANYGRID_ORT_WEB")
    if given is None and not (cache_folder() / f"{RELEASE.package}-{RELEASE.version}").is_dir():
        pytest.skip("onnxruntime-web is neither cached nor named by ANYGRID_ORT_WEB")
    try:
        return runtime_files(None if given is None else Path(given))
    except AnygridError as error:
        pytest.skip(str(error))


def choose(page, name, value):
    page.js(f"(() => {{ const q = document.getElementById({name!r}); q.value = {str(value)!r}; q.dispatchEvent(new Event('input')) }})()")


def difference(page, model):
    """Largest difference between the page's output and the surrogate's for the page's input, in deviations of the output."""
    found = page.js(NUMBERS)
    a, u = (np.frombuffer(base64.b64decode(found[k]), "<f4").reshape(1, 2, *found["shape"]) for k in "au")
    with torch.no_grad():
        expected = model(torch.from_numpy(a.copy()), model.grid.at(tuple(found["shape"]))).numpy()
    assert np.std(expected - a) > 0
    return np.abs(u - expected).max() / np.std(expected)


@pytest.mark.parametrize(
    "model", [lambda: made(latent()), *[lambda g=g: made(latent(g), g) for g in (LINE, CELLS, SPACE, GLOBE)], lambda: made(textbook())]
)
def test_numbers_are_the_surrogates_at_three_resolutions(tmp_path, runtime, model):
    model = model()
    samples = np.random.default_rng(0).normal(0, 5, (2, 2, *model.grid.shape)).astype(np.float32)
    write_page(model, tmp_path / "page", runtime, samples=samples, source="noise")
    with served(tmp_path) as (address, asked), browser(tmp_path / "profile") as page:
        page.open(f"{address}/page/")
        page.wait("window.anygrid?.result && !document.getElementById('work').hidden")
        sizes = page.js("window.anygrid.facts.resolutions")
        for k in (0, len(sizes) // 2, len(sizes) - 2):
            for source in ("0", "random"):
                choose(page, "source", source)
                page.js("window.anygrid.result = null")
                choose(page, "resolution", k)
                page.wait(f"window.anygrid.result && String(window.anygrid.result.shape) === {','.join(map(str, sizes[k]))!r}")
                assert difference(page, model) < 1e-5
        choose(page, "resolution", 0)
        page.wait(f"String(window.anygrid.result.shape) === {','.join(map(str, sizes[0]))!r}")
        page.js("document.getElementById('step').click()")
        page.wait("window.anygrid.result.steps === 2")
        assert difference(page, model) < 1e-5
        assert page.js("document.getElementById('clock').textContent") == "after 2 steps: 2 days"
        assert page.complaints == []
        assert {r.split("/page")[0] for r in page.requests} == {"about:blank", address} - {"about:blank"}
        assert "/page/ort/ort.wasm" in asked


def test_hostile_names_are_text(tmp_path, runtime):
    names = ["</script><img src=x onerror=alert(1)>", '"><b id="pwned">&amp;\u2028']
    model = made(latent(PLANE))
    variables = [Variable(names[0], "<i>"), Variable("v", "m", names[1])]
    model = Surrogate(model.operator, variables, variables, model.statistics, PLANE, "1 <day>", True).eval()
    write_page(model, tmp_path / "page", runtime, title=names[0])
    with served(tmp_path / "page") as (address, asked), browser(tmp_path / "profile") as page:
        page.open(address)
        page.wait("window.anygrid?.result")
        assert page.js("document.title") == names[0]
        assert page.js("document.getElementById('title').textContent") == names[0]
        assert page.js("document.querySelectorAll('img, b:not([id$=title]), i, #pwned').length") == 0
        assert names[1] in page.js("document.getElementById('about').textContent")
        assert not [path for path in asked if path.endswith("/x")]
        assert page.complaints == []


def test_from_a_file_it_says_how_to_serve_it(tmp_path, runtime):
    write_page(made(latent(LINE), LINE), tmp_path / "page", runtime)
    with browser(tmp_path / "profile") as page:
        page.open((tmp_path / "page" / "index.html").as_uri())
        page.wait("document.readyState === 'complete'")
        assert "python -m http.server" in page.js("document.body.innerText")
        assert "Loading" not in page.js("document.body.innerText")


def test_damaged_folder_is_told(tmp_path, runtime):
    write_page(made(latent(LINE), LINE), tmp_path / "page", runtime)
    (tmp_path / "page" / "model.onnx").write_bytes(b"no graph")
    with served(tmp_path / "page") as (address, _), browser(tmp_path / "profile") as page:
        page.open(address)
        page.wait("document.getElementById('status')?.textContent.startsWith('This did not work')")
        (tmp_path / "page" / "surrogate.json").write_text(json.dumps({"inputs": 1}))
        page.open(address)
        page.wait("document.getElementById('status')?.textContent.startsWith('This did not work')")
