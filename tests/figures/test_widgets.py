"""Controls: the figure alone where nobody is, one control a choice where somebody is, and what a
control draws is what its value says.
"""

import numpy as np
import pytest
import timm
from matplotlib.figure import Figure

import astroformer.models  # noqa: F401
from astroformer import data
from astroformer.figures import networks, sliding, widgets


@pytest.fixture
def read_by_a_person(monkeypatch):
    """A kernel whose frontend can be asked for input, as JupyterLab's can."""
    from ipykernel.kernelbase import Kernel
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.kernel = Kernel()
    shell.kernel._allow_stdin = True
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    return shell


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed."""
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_without_a_reader_the_first_choices_are_drawn():
    assert not widgets.is_live()
    asked = []

    def draw(stack, size):
        asked.append((stack, size))
        return f"{stack} at {size}"

    assert widgets.controls(draw, stack=["CCCT", "CCTT"], size=[64, 32]) == "CCCT at 64"
    assert asked == [("CCCT", 64)]


def test_with_a_reader_each_choice_has_a_control_that_draws_its_value(read_by_a_person, displayed):
    assert widgets.is_live()

    def draw(stack, image):
        return f"{stack} and {image}"

    shown = widgets.controls(draw, stack=["CCCT", "CCTT"], image=[7, 3, 12])
    menu, slider = shown.children[:2]
    assert [menu.value, slider.value] == ["CCCT", 7]
    assert list(menu.options) == ["CCCT", "CCTT"] and list(slider.options) == [3, 7, 12]
    shown.update()
    menu.value, slider.value = "CCTT", 12
    assert displayed[0] == "CCCT and 7" and displayed[-1] == "CCTT and 12"


def test_nothing_to_choose_is_refused():
    with pytest.raises(ValueError, match="nothing to choose for image"):
        widgets.controls(lambda image: image, image=[])


def test_the_kernel_of_a_batch_has_no_reader(tmp_path):
    """nbclient, as papermill and jupyter execute use it."""
    import nbformat
    from nbclient import NotebookClient

    cell = nbformat.v4.new_code_cell(
        "from astroformer.figures import widgets\n"
        "print(widgets.is_live(), widgets.controls(lambda x: x, x=[5, 6]))"
    )
    page = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(page, kernel_name="python3", timeout=300).execute()
    assert page.cells[0].outputs[0].text == "False 5\n"


def test_an_image_is_chosen_by_its_place():
    images = data.load("galaxies", "test")
    model = timm.create_model("astroformer_pico", num_classes=10).eval()
    scale = dict(mean=[0.5] * 3, std=[0.25] * 3)
    figure = widgets.attention(model, images, **scale, numbers=[3, 5])
    same = networks.attention_over_image(model, images.pixels[3], **scale)
    for one, other in zip(figure.axes, same.axes, strict=True):
        for left, right in zip(one.images, other.images, strict=True):
            assert np.array_equal(left.get_array(), right.get_array())


def test_a_slider_shows_the_galaxy_at_its_shift(read_by_a_person, displayed):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    shifts, classes = (-4, 0, 3), ("round", "spiral")
    chances = {"one": np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])}
    shown = widgets.slide(pixels, chances, shifts, classes)
    slider = shown.children[0]
    assert slider.value == 0 and list(slider.options) == [-4, 0, 3]
    slider.value = -4
    figure = displayed[-1]
    assert isinstance(figure, Figure)
    image, bars = figure.axes
    assert np.array_equal(image.images[0].get_array(), np.roll(pixels, -4, axis=1))
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([20, 80])


def test_in_a_page_the_galaxy_slides_without_a_kernel():
    pixels = np.zeros((16, 16, 3), np.uint8)
    chances = {"one": np.array([[0.2, 0.8], [0.6, 0.4]])}
    assert isinstance(widgets.slide(pixels, chances, (0, 3), ("a", "b")), sliding.Interactive)
