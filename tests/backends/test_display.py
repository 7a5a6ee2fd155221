"""Rich output: displays, figures, dataframes, updates, order."""

import base64
import struct

import pytest

PNG = """
import base64
png = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf'
                       'DwAChwGA60e6kgAAAABJRU5ErkJggg==')
"""
SHOW = """
class Shown:
    def __init__(self, **given): self.given = given
    def __repr__(self): return 'plain'
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'text/plain': 'plain', **self.given}
"""


def order(result):
    """(part, text or type) of all blocks by their order of arrival."""
    blocks = sorted(result.content, key=lambda b: b["_meta"]["cellblock/seq"])
    return [(b["_meta"]["cellblock/part"], b.get("text", b["type"])) for b in blocks]


def size_of(image):
    """(width, height) of a PNG block."""
    data = base64.b64decode(image["data"])
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and image["mimeType"] == "image/png"
    return struct.unpack(">II", data[16:24])


def outputs(result, kind):
    """The data of rich_outputs of one kind."""
    return [o["data"] for o in result.structured["rich_outputs"] if o["output_type"] == kind]


class TestKinds:
    @pytest.mark.parametrize("mime, payload", [
        ("text/html", "<b>bold</b>"), ("text/markdown", "*m*"), ("text/latex", "$x^2$"),
        ("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("application/javascript", "js()"),
        ("application/json", {"a": [1, None, "ü"]}), ("application/x-own", "own")])
    def test_displayed(self, rich, mime, payload):
        result = rich.ok(f"{SHOW}\ndisplay(Shown(**{{{mime!r}: {payload!r}}}))")
        assert outputs(result, "display_data") == [{"text/plain": "plain", mime: payload}]
        rich.ok("None")

    @pytest.mark.parametrize("method, mime, payload", [
        ("_repr_html_", "text/html", "<i>"), ("_repr_markdown_", "text/markdown", "# h"),
        ("_repr_latex_", "text/latex", "$y$"), ("_repr_svg_", "image/svg+xml", "<svg/>"),
        ("_repr_json_", "application/json", {"k": 1})])
    def test_as_the_last_expression(self, rich, method, mime, payload):
        result = rich.ok(f"class C:\n    def __repr__(self): return 'c'\n"
                         f"    def {method}(self): return {payload!r}\nC()")
        assert outputs(result, "execute_result") == [{"text/plain": "c", mime: payload}]
        assert result.structured["result"] == "c"

    def test_text_forms_reach_a_client_without_structured_content(self, py):
        result = py.ok(SHOW + "display(Shown(**{'text/markdown': '*shown*'}))")
        assert "*shown*" in str(result.parts("display")) and result.structured is None

    def test_html_of_the_result_is_not_repeated(self, py):
        result = py.ok("class C:\n    def __repr__(self): return 'text'\n"
                       "    def _repr_html_(self): return '<b>html</b>'\nC()")
        assert result.text("result") == "text" and "<b>html" not in str(result.content)

    def test_png_bytes(self, py):
        result = py.ok(PNG + "class P:\n    def _repr_png_(self): return png\ndisplay(P())")
        assert [size_of(image) for image in result.images()] == [(1, 1)]

    def test_image_as_the_last_expression(self, py):
        result = py.ok(PNG + "class P:\n    def __repr__(self): return 'a picture'\n"
                       "    def _repr_png_(self): return png\nP()")
        assert result.text("result") == "a picture"
        assert [b["type"] for b in result.parts("display")] == ["image"]

    def test_what_says_png_and_is_not(self, py):
        result = py.ok("class P:\n    def __repr__(self): return 'p'\n"
                       "    def _repr_png_(self): return b'no picture'\nP()")
        assert result.images() == [] and result.text("result") == "p"

    @pytest.mark.needs("ipython")
    def test_ipython_classes(self, rich):
        result = rich.ok("from IPython.display import HTML, JSON, Latex, Markdown, SVG, display\n"
                         "display(HTML('<b>'), Markdown('*m*'), Latex('$l$'), JSON({'j': 1}))")
        shown = [set(data) - {"text/plain"} for data in outputs(result, "display_data")]
        assert shown == [{"text/html"}, {"text/markdown"}, {"text/latex"}, {"application/json"}]

    def test_raising_repr_leaves_the_text_and_a_note(self, py):
        result = py.ok("class C:\n    def __repr__(self): return 'text'\n"
                       "    def _repr_html_(self): raise ValueError('broken html')\nC()")
        assert result.text("result") == "text"
        assert "_repr_html_" in result.text("note") and "broken html" in result.text("note")

    def test_raising_plain_repr(self, py):
        result = py.run("class C:\n    def __repr__(self): raise ValueError('broken')\nC()")
        assert "broken" in result.text() and py.value("1 + 1") == "2"

    def test_a_missing_display_kind_is_no_trouble(self, py):
        assert py.ok("display()").parts("display") == []


class TestUpdates:
    def test_display_id_replaces_in_place(self, rich):
        result = rich.ok("h = display('first', display_id=True)\ndisplay('other')\n"
                         "h.update('second')")
        texts = [data["text/plain"] for data in outputs(result, "display_data")]
        assert texts == ["'second'", "'other'"]

    def test_update_of_all_with_one_id(self, rich):
        result = rich.ok("display(1, display_id='a'); display(2, display_id='a')\n"
                         "display(3, display_id='a', update=True)")
        assert [d["text/plain"] for d in outputs(result, "display_data")] == ["3", "3"]

    @pytest.mark.needs("stateful")
    def test_update_of_an_earlier_runs_display(self, rich):
        rich.ok("h = display('first', display_id='early')")
        assert "late" in str(rich.ok("h.update('late')").structured["rich_outputs"])

    def test_clear_output(self, rich):
        code = "print('gone'); display('gone too')\nclear()\nprint('left')"
        if "ipython" in rich.has:
            code = "from IPython.display import clear_output as clear\n" + code
        else:
            code = "clear = clear_output\n" + code
        result = rich.ok(code)
        assert result.structured["stdout"] == "left\n"
        assert result.structured["rich_outputs"] == []

    def test_clear_output_wait_clears_with_the_next_output(self, rich):
        start = ("from IPython.display import clear_output\n" if "ipython" in rich.has else "")
        result = rich.ok(start + "for n in range(3):\n    clear_output(wait=True); print(n)")
        assert result.structured["stdout"] == "2\n"
        result = rich.ok(start + "print('stays'); clear_output(wait=True)")
        assert result.structured["stdout"] == "stays\n"


class TestOrder:
    def test_text_and_displays(self, py):
        code = "print('a')\ndisplay('shown')\nprint('b')\n'value'"
        parts = [part for part, _ in order(py.ok(code))]
        assert parts.index("display") < parts.index("result")
        assert sorted(set(parts), key=parts.index)[0] == "stdout"

    def test_content_is_ordered_by_part(self, py):
        code = "import sys\ndisplay('shown')\nsys.stderr.write('err\\n')\nprint('out')\n'value'"
        parts = [b["_meta"]["cellblock/part"] for b in py.ok(code).content]
        assert parts == ["stdout", "stderr", "result", "display"]

    def test_seq_tells_what_came_first(self, py):
        code = "display('shown')\nimport time; time.sleep(0.1)\nprint('out')\n'value'"
        assert [part for part, _ in order(py.ok(code))] == ["display", "stdout", "result"]

    def test_structured_keys_are_always_there(self, rich):
        empty = rich.ok("None").structured
        assert (empty["stdout"], empty["stderr"]) == ("", "")
        assert empty["result"] is None and empty["error"] is None
        assert empty["rich_outputs"] == [] and empty["artifacts"] == []
        failed = rich.run("print('x')\n1 / 0").structured
        assert failed["error"]["etype"] == "ZeroDivisionError" and failed["stdout"] == "x\n"
        assert isinstance(failed["error"]["traceback"], list)


@pytest.mark.needs("matplotlib")
class TestFigures:
    def test_a_plot_without_set_up(self, py):
        result = py.ok("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);")
        (image,) = result.images()
        width, height = size_of(image)
        assert 300 < width < 2000 and 200 < height < 2000

    def test_show_is_not_needed_and_does_no_harm(self, py):
        code = "import matplotlib.pyplot as plt\nplt.plot([1]); plt.show()"
        assert len(py.ok(code).images()) == 1
        assert py.ok("1").images() == []

    def test_several_figures_in_order(self, py):
        code = """
            import matplotlib.pyplot as plt
            for inches in (2, 3, 4):
                plt.figure(figsize=(inches, 2), dpi=100); plt.plot([1, 2])"""
        result = py.ok(code)
        widths = [size_of(image)[0] for image in result.images()]
        assert len(widths) == 3 and widths == sorted(widths)

    def test_show_between_texts_keeps_the_order(self, py):
        code = ("import matplotlib.pyplot as plt, time\nplt.plot([1]); plt.show()\n"
                "time.sleep(0.1); print('after')")
        assert [part for part, _ in order(py.ok(code))] == ["display", "stdout"]

    def test_one_format_only(self, rich):
        result = rich.ok("import matplotlib.pyplot as plt\nplt.plot([1]);")
        (data,) = outputs(result, "display_data")
        assert set(data) == {"image/png", "text/plain"} and result.images() == []

    def test_a_figure_as_the_last_expression_is_there_once(self, py):
        code = "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(); ax.plot([1])\nfig"
        assert len(py.ok(code).images()) == 1

    def test_a_figure_of_a_run_that_fails(self, py):
        result = py.run("import matplotlib.pyplot as plt\nplt.plot([1])\n1 / 0")
        assert result.cause == "error" and len(result.images()) == 1

    def test_closed_figures_are_not_shown(self, py):
        assert py.ok("import matplotlib.pyplot as plt\nplt.plot([1]); plt.close()").images() == []

    @pytest.mark.needs("stateful")
    def test_savefig(self, py):
        py.ok("import matplotlib.pyplot as plt\nplt.plot([1]); plt.savefig('f.png'); plt.close()")
        assert py.value("open('f.png', 'rb').read(4)") == "b'\\x89PNG'"


@pytest.mark.needs("pandas")
class TestDataframes:
    def test_text_and_html(self, rich):
        result = rich.ok("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})")
        (data,) = outputs(result, "execute_result")
        assert "a" in data["text/plain"] and "<table" in data["text/html"]
        assert result.structured["result"] == data["text/plain"]

    def test_text_for_the_model(self, py):
        result = py.ok("import pandas as pd\npd.DataFrame({'a': [1, 2]})")
        assert result.text("result").splitlines()[0].strip() == "a"
        assert "<table" not in str(result.content)

    def test_plot_of_a_dataframe(self, py):
        code = "import pandas as pd\npd.DataFrame({'a': [1, 2]}).plot();"
        assert len(py.ok(code).images()) == 1

    def test_csv_round_trip(self, py):
        assert py.value("import pandas as pd\npd.DataFrame({'n': range(10)}).to_csv('n.csv')\n"
                        "int(pd.read_csv('n.csv').n.sum())") == "45"
