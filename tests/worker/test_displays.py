"""Rich displays: kinds, updates, clearing, order, failures, limits; figures."""

import base64
import json
import struct

import pytest

MIB = 1024 * 1024
ALL_REPRS = """
class Rich:
    def __repr__(self): return 'plain'
    def _repr_html_(self): return '<b>'
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return b'png'
    def _repr_jpeg_(self): return b'jpeg'
    def _repr_markdown_(self): return '*m*'
    def _repr_latex_(self): return '$l$'
    def _repr_json_(self): return {'a': [1, None, float('nan'), 10 ** 30, 'x\\0']}
    def _repr_javascript_(self): return 'js()'
    def _repr_pdf_(self): return b'pdf'
"""
PLOT = "import matplotlib.pyplot as plt\n"


def b64(data):
    return base64.b64encode(data).decode()


def test_every_representation(worker):
    data = worker.run(ALL_REPRS + "Rich()").result
    document = data.pop("application/json")
    assert data == {
        "text/plain": "plain",
        "text/html": "<b>",
        "image/svg+xml": "<svg/>",
        "image/png": b64(b"png"),
        "image/jpeg": b64(b"jpeg"),
        "text/markdown": "*m*",
        "text/latex": "$l$",
        "application/javascript": "js()",
        "application/pdf": b64(b"pdf"),
    }
    assert document == {"a": [1, None, None, str(10**30), "x\\x00"]}


def test_mimebundle(worker):
    code = (
        "class M:\n"
        "    def __repr__(self): return 'm'\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'application/x-own': {'k': (1, 2)}, 'image/png': b'p'}, {'image/png': "
        "{'width': 3}}\n"
        "M()"
    )
    frame = worker.run(code).displays[-1]
    assert frame["data"]["application/x-own"] == {"k": [1, 2]}
    assert frame["data"]["image/png"] == b64(b"p")
    assert frame["data"]["text/plain"] == "m"
    assert frame["metadata"]["image/png"] == {"width": 3}


def test_object_that_displays_itself(worker):
    result = worker.run(
        "class S:\n    def _ipython_display_(self): print('myself')\nS()"
    )
    assert (result.out, result.displays) == ("myself\n", [])


def test_classes_are_not_their_instances(worker):
    result = worker.run(ALL_REPRS + "Rich")
    assert list(result.result) == ["text/plain"]
    assert result.notes == []


def test_display_order_with_text(worker):
    result = worker.run("print('a')\ndisplay('one')\nprint('b')\ndisplay('two', 3)\nprint('c')\n4")
    assert result.order() == [
        ("stdout", "a\n"),
        ("display", "'one'"),
        ("stdout", "b\n"),
        ("display", "'two'"),
        ("display", "3"),
        ("stdout", "c\n"),
        ("display", "4"),
    ]
    assert [d["kind"] for d in result.displays] == ["display", "display", "display", "result"]
    assert all(d["sync"] for d in result.displays)


def test_display_id_and_updates(worker):
    result = worker.run("h = display('first', display_id='d-1')\nh.update('second'); h.display_id")
    kinds = [(d["kind"], d["display_id"]) for d in result.displays]
    assert kinds == [("display", "d-1"), ("update", "d-1"), ("result", None)]
    later = worker.run("h.update('third')").displays
    assert [(d["kind"], d["display_id"], d["data"]["text/plain"]) for d in later] == [
        ("update", "d-1", "'third'")
    ]
    made = worker.run("display(1, display_id=True);").displays[0]["display_id"]
    assert isinstance(made, str) and len(made) >= 8
    importing = "from IPython.display import update_display\n" if worker.has_ipython else ""
    again = worker.run(importing + "update_display('fourth', display_id='d-1')").displays
    assert [(d["kind"], d["display_id"]) for d in again] == [("update", "d-1")]


def test_clear_output(worker):
    importing = "from IPython.display import clear_output\n" if worker.has_ipython else ""
    result = worker.run(
        importing + "print('old'); clear_output(wait=True); print('new'); clear_output()"
    )
    assert [frame["wait"] for frame in result.frames("clear")] == [True, False]
    assert result.raw_out == b"old\nnew\n"
    kinds = [kind for kind, _ in result.events]
    assert kinds == ["stdout", "clear", "stdout", "clear"]


@pytest.mark.parametrize(
    "method", ["_repr_html_", "_repr_png_", "_ipython_display_", "_repr_json_", "__repr__"]
)
def test_raising_representation(worker, method):
    code = "class R:\n    def %s(self): raise ValueError('why')\nR()" % method
    result = worker.run(code)
    assert result.status == "ok"
    assert "R " in result.text or "R object" in result.text or ".R" in result.text
    assert len(result.notes) == 1
    assert method in result.notes[0] and "ValueError: why" in result.notes[0]
    assert (result.out, result.err) == ("", "")


def test_raising_mimebundle(worker):
    code = "class R:\n    def _repr_mimebundle_(self, **k): raise ValueError('why')\ndisplay(R());"
    result = worker.run(code)
    assert result.status == "ok"
    assert list(result.displays[0]["data"]) == ["text/plain"]
    assert "_repr_mimebundle_ of R raised ValueError: why" in result.notes[0]


def test_payload_limit(worker):
    code = (
        "class B:\n    def __repr__(self): return 'big'\n"
        "    def _repr_html_(self): return 'x' * %d\nB()"
    )
    kept = worker.run(code % (8 * MIB))
    assert len(kept.result["text/html"]) == 8 * MIB
    dropped = worker.run(code % (8 * MIB + 1))
    assert dropped.result == {"text/plain": "big"}
    assert str(8 * MIB + 1) in dropped.notes[0] and str(8 * MIB) in dropped.notes[0]


def test_frame_limit(worker):
    names = ("html", "markdown", "latex", "svg", "javascript")
    code = "class B:\n    def __repr__(self): return 'big'\n" + "".join(
        "    def _repr_%s_(self): return '\\n' * %d\n" % (name, 7 * MIB) for name in names
    )
    result = worker.run(code + "B()")
    assert result.status == "ok"
    assert result.text == "big"
    assert len(result.notes) >= 3
    size = len(json.dumps(result.result))
    assert size <= 32 * MIB


def test_huge_text(worker):
    code = "class T:\n    def __repr__(self): return 'a' * 2_000_000 + 'z'\nT()"
    text = worker.run(code).text
    assert len(text) < MIB + 200
    assert text.startswith("aaa") and text.endswith("az")
    assert "%d characters left out" % (2_000_001 - MIB) in text


def test_display_from_a_thread(worker):
    result = worker.run(
        "import threading\n"
        "ts = [threading.Thread(target=lambda i=i: [display(i) for _ in range(50)]) "
        "for i in range(4)]\n"
        "[t.start() for t in ts]\nfor i in range(50): display('main')\n[t.join() for t in ts];"
    )
    assert len(result.displays) == 250
    for frame in result.displays:
        assert frame["sync"] == (frame["data"]["text/plain"] == "'main'")


def test_display_in_a_forked_child(worker):
    result = worker.run(
        "import os\npid = os.fork()\nif pid == 0:\n    display('child'); os._exit(0)\n"
        "os.waitpid(pid, 0)\ndisplay('parent')"
    )
    assert result.out == "'child'\n"
    assert [d["data"]["text/plain"] for d in result.displays] == ["'parent'"]


def test_pandas(system):
    result = system.run("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf")
    assert "<table" in result.result["text/html"]
    assert result.text.splitlines()[1] == "0  1"


def test_out_and_underscore(ipython):
    count = ipython.run("40 + 2").done["execution_count"]
    assert ipython.run("_, Out[%d], In[%d]" % (count, count)).text == "(42, 42, '40 + 2')"


def test_out_is_bounded(ipython):
    for _ in range(1100):
        result = ipython.run("1")
    assert result.err == ""
    assert int(ipython.run("len(Out)").text) <= 1000


def test_formatters_of_the_user(ipython):
    formatter = "get_ipython().display_formatter.formatters['text/html']"
    ipython.run("%s.for_type(int, lambda n: '<i>%%d</i>' %% n)" % formatter)
    assert ipython.run("3").result == {"text/plain": "3", "text/html": "<i>3</i>"}
    ipython.run("%s.pop(int)" % formatter)
    assert ipython.run("3").result == {"text/plain": "3"}
    ipython.run("%precision 2")
    assert ipython.run("1 / 3").text == "0.33"
    ipython.run("%precision")


def test_interactivity_all(ipython):
    ipython.run("get_ipython().ast_node_interactivity = 'all'")
    result = ipython.run("1\nx = 2\nx")
    ipython.run("get_ipython().ast_node_interactivity = 'last_expr'")
    assert [d["data"]["text/plain"] for d in result.displays] == ["1", "2"]


def picture_size(data):
    raw = base64.b64decode(data)
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", raw[16:24])


def figures(result):
    return [(d["kind"], d["data"]["text/plain"], "image/png" in d["data"])
            for d in result.displays]


ONE = ("display", "<Figure size 640x480 with 1 Axes>", True)


def test_figures_at_the_end(system):
    result = system.run(PLOT + "plt.figure(7); plt.plot([1])\nplt.figure(3, figsize=(2, 2))\n"
                        "plt.plot([2])\nprint('drawn');")
    assert result.order()[0] == ("stdout", "drawn\n")
    assert figures(result) == [("display", "<Figure size 200x200 with 1 Axes>", True), ONE]
    assert set(result.displays[0]["data"]) == {"text/plain", "image/png"}
    assert result.err == ""
    assert system.run("plt.get_fignums()").text == "[]"
    assert system.run("1").displays[0]["kind"] == "result"


def test_show_displays_at_once(system):
    result = system.run(PLOT + "plt.plot([1]); print('a'); plt.show(); print('b')\n"
                        "plt.plot([2]); plt.show(); print('c')")
    assert result.order() == [("stdout", "a\n"), ("display", ONE[1]), ("stdout", "b\n"),
                              ("display", ONE[1]), ("stdout", "c\n")]
    assert result.err == ""


def test_figure_show_displays_once(system):
    result = system.run(PLOT + "fig, ax = plt.subplots(); ax.plot([1]); fig.show(); print('x')")
    assert figures(result) == [ONE]
    assert result.order()[-1] == ("stdout", "x\n")


def test_figure_as_value_is_shown_once(system):
    result = system.run(PLOT + "fig, ax = plt.subplots(); ax.plot([1])\nfig")
    assert figures(result) == [("result",) + ONE[1:]]
    result = system.run("fig, ax = plt.subplots(); ax.plot([1])\ndisplay(fig)")
    assert figures(result) == [ONE]
    assert figures(system.run("fig")) == [("result",) + ONE[1:]]


def test_figure_changed_after_display(system):
    result = system.run(PLOT + "fig, ax = plt.subplots(); ax.plot([1])\ndisplay(fig)\n"
                        "ax.plot([5, 6]);")
    assert figures(result) == [ONE, ONE]


def test_figures_of_failing_code(system):
    result = system.run(PLOT + "plt.plot([1])\n1/0")
    assert result.status == "error"
    assert figures(result) == [ONE]


@pytest.mark.parametrize("choice", ["matplotlib.use('agg')", "matplotlib.use('Agg', force=True)",
                                    "plt.switch_backend('agg')", "pass"])
def test_other_ways_to_choose_agg(system, choice):
    result = system.run("import matplotlib\n" + PLOT + choice + "\nplt.plot([1]); plt.show()")
    assert figures(result) == [ONE]
    assert result.err == ""


def test_inline_magic_changes_nothing(system):
    result = system.run("%matplotlib inline\n" + PLOT + "plt.plot([1]); plt.show()\nplt.plot([2]);")
    assert figures(result) == [ONE, ONE]
    assert figures(system.run("plt.plot([1]);")) == [ONE]


def test_inline_configuration(system):
    usual = picture_size(system.run(PLOT + "plt.plot([1]);").displays[0]["data"]["image/png"])
    system.run("%config InlineBackend.figure_format = 'retina'")
    frame = system.run("plt.plot([1]);").displays[0]
    system.run("%config InlineBackend.figure_format = 'svg'")
    drawing = system.run("plt.plot([1]);").displays[0]["data"]
    system.run("%config InlineBackend.figure_format = 'png'")
    wide = picture_size(frame["data"]["image/png"])[0]
    assert abs(wide - 2 * usual[0]) <= 4
    assert frame["metadata"]["image/png"]["width"] == wide // 2
    assert drawing.keys() == {"text/plain", "image/svg+xml"}
    assert figures(system.run("plt.plot([1]);")) == [ONE]


def test_savefig(system):
    result = system.run(PLOT + "plt.plot([1]); plt.savefig('f.png'); plt.close()\n"
                        "open('f.png', 'rb').read(4)")
    assert result.text == repr(b"\x89PNG")
    assert len(result.displays) == 1


def test_children_can_draw(system):
    result = system.run(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', "
        "'import matplotlib.pyplot as p; p.plot([1]); p.savefig(\"c.png\"); p.show()'])"
        ".returncode"
    )
    assert (result.text, result.err) == ("0", "")


def test_matplotlib_is_not_imported_for_nothing(fresh):
    names = "('matplotlib', 'numpy', 'pandas')"
    assert fresh.run("import sys; [n for n in %s if n in sys.modules]" % names).text == "[]"
