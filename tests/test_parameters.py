"""Parameters: one vector, and views into it by name."""

import numpy as np
import pytest

from charrnn.parameters import Parameters

SHAPES = {"layers.0.U": (2, 3), "layers.0.b": (3,), "layers.1.U": (3, 3), "out.c": (2,)}


@pytest.fixture
def params():
    return Parameters(SHAPES, np.arange(20, dtype=np.float32))


def test_names_are_views_into_the_vector_in_their_order(params):
    assert list(params) == list(SHAPES)
    assert len(params) == 4
    assert {name: array.shape for name, array in params.items()} == SHAPES
    assert np.array_equal(np.concatenate([array.ravel() for array in params.values()]), params.flat)
    for name, array in params.items():
        assert np.shares_memory(array, params.flat)
        array[...] = -1
        assert (params.flat[params.slices[name]] == -1).all()
    assert (params.flat == -1).all()
    params.flat[:] = 7
    assert all((array == 7).all() for array in params.values())


def test_shapes_that_do_not_fill_the_vector_are_a_bug_of_ours():
    with pytest.raises(AssertionError, match=r"20 parameters .* array of \(21,\)"):
        Parameters(SHAPES, np.zeros(21))
    with pytest.raises(ValueError, match="reshape"):
        Parameters(SHAPES, np.zeros(19))


def test_copies_do_not_share_memory_and_likes_share_the_layout(params):
    copies = [
        params.astype(np.float64),
        params.astype(np.float32),
        Parameters.from_arrays(dict(params)),
        params.like(),
        params.like(params.flat.copy()),
    ]
    for copy in copies:
        assert not np.shares_memory(copy.flat, params.flat)
        assert copy.shapes == params.shapes
        assert copy.slices == params.slices
    assert np.array_equal(copies[2].flat, params.flat)
    assert copies[0].flat.dtype == np.float64
    assert copies[3].flat.dtype == np.float32
    assert not copies[3].flat.any()
    assert Parameters.zeros(SHAPES).flat.dtype == np.float32


def test_arrays_of_any_layout_are_copied_by_value():
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.asfortranarray(np.eye(3))[::2]}
    params = Parameters.from_arrays(arrays)
    assert all(np.array_equal(params[name], array) for name, array in arrays.items())


def test_a_layer_is_its_views_under_short_names(params):
    layer = params.layer("layers.0.")
    assert list(layer) == ["U", "b"]
    layer["b"][...] = 5
    assert (params["layers.0.b"] == 5).all()


def test_frozen_parameters_are_read_only_in_the_vector_and_in_every_view(params):
    early = params.layer("layers.0.")["U"]
    assert params.freeze() is params
    for array in (params.flat, early, params["out.c"], params.layer("out.")["c"], params.flat[1:]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        params["out.c"].flags.writeable = True
    params.like().flat[:] = 1  # a like is its own
    params.astype(np.float32).flat[:] = 1


def test_the_mapping_itself_can_not_be_changed(params):
    with pytest.raises(TypeError):
        params["new"] = np.zeros(1)
    with pytest.raises(TypeError):
        del params["out.c"]
    with pytest.raises(KeyError):
        params["absent"]


def test_an_empty_shape_and_a_scalar_have_their_places():
    params = Parameters({"none": (0, 3), "scalar": (), "two": (2,)}, np.arange(3.0))
    assert params["none"].shape == (0, 3)
    assert params["scalar"] == 0
    assert list(params["two"]) == [1, 2]
