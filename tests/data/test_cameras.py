"""Camera conversions: the rotation rule, the renderer's matrices and the model's input."""

import numpy as np

from being.data.cameras import (
    camera_to_world_json,
    camera_vector,
    euler_to_rotation,
    rotation_to_euler,
    world_to_camera,
)


def test_angles_survive_a_round_trip():
    euler = np.random.default_rng(0).normal(0, 0.4, (50, 3))
    assert np.allclose(rotation_to_euler(euler_to_rotation(euler)), euler)


def test_third_angle_turns_against_the_usual_rotation():
    rotation = euler_to_rotation(np.array([0, 0, np.pi / 2]))
    assert np.allclose(rotation @ [1, 0, 0], [0, -1, 0], atol=1e-12)


def test_a_point_above_the_head_centre_is_projected_above_the_image_centre():
    matrix = world_to_camera(np.zeros((1, 3)), np.array([[0.0, 0, -7]]))[0]
    x, y, z = (matrix @ [0.1, 0.5, 0, 1])[:3]
    assert x > 0 and y < 0 and np.isclose(z, 7)


def test_camera_vector_is_the_transposed_rotation_and_the_translation():
    euler, trans = np.array([[0.1, 0.2, 0.3]]), np.array([[0.4, 0.5, -7.0]])
    matrix = world_to_camera(euler, trans)
    vector = camera_vector(matrix)[0]
    assert np.allclose(vector[:9].reshape(3, 3).T, matrix[0, :3, :3])
    assert np.allclose(vector[9:], [0.4, -0.5, 7.0])


def test_json_matrix_inverts_the_pose_with_translation_in_tenths():
    euler, trans = np.array([[0.1, 0.2, 0.3]]), np.array([[0.4, 0.5, -7.0]])
    matrix = camera_to_world_json(euler, trans)[0]
    camera = euler_to_rotation(euler[0]) @ [0.01, 0.02, 0.03] + trans[0] / 10
    assert np.allclose(matrix @ [*camera, 1], [0.01, 0.02, 0.03, 1])
