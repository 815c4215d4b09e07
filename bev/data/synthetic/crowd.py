"""All bodies of a scene in flat arrays, so that one numpy call moves and projects everybody."""

from __future__ import annotations

import dataclasses

import numpy as np

from bev.data.synthetic.population import Body
from bev.data.synthetic.shapes import Tree


@dataclasses.dataclass(frozen=True)
class Crowd:
    """The meshes of N bodies, concatenated. Indices run over the whole crowd; coordinates are the bodies' own [m].

    Attributes:
        corners: (V, 3); corner_body, corner_face: (V,).
        faces: (8, F) corner indices; face_size, face_body, face_solid: (F,); normals (F, 3); offsets (F,);
            colours (F, 3) RGB.
        planes: (P, 10, 4); plane_count: (P,) 6 or 10; bounds: (P, 2, 3); solid_body, reflectance: (P,).
        first_solid: (N,) index of each body's first solid; trees: their BSPs.
        low, high: (N, 3) extent; radius: (N,) of a sphere about the middle of the extent; middle_z: (N,).
    """

    corners: np.ndarray
    corner_body: np.ndarray
    corner_face: np.ndarray
    faces: np.ndarray
    face_size: np.ndarray
    face_body: np.ndarray
    face_solid: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray
    colours: np.ndarray
    planes: np.ndarray
    plane_count: np.ndarray
    bounds: np.ndarray
    solid_body: np.ndarray
    reflectance: np.ndarray
    first_solid: np.ndarray
    trees: list[Tree]
    low: np.ndarray
    high: np.ndarray
    radius: np.ndarray
    middle_z: np.ndarray

    def __len__(self) -> int:
        return len(self.trees)


def gather(bodies: list[Body]) -> Crowd:
    """Concatenate the meshes of a scene's bodies."""
    meshes = [body.mesh for body in bodies]
    index = np.arange(len(meshes))
    corner_count = np.array([len(m.corners) for m in meshes])
    face_size = np.concatenate([m.face_size for m in meshes])
    face_count = np.array([len(m.faces) for m in meshes])
    solid_count = np.array([len(m.bounds) for m in meshes])
    first_corner, first_solid = np.cumsum(corner_count) - corner_count, np.cumsum(solid_count) - solid_count
    planes = np.concatenate([m.planes for m in meshes])
    extent = np.stack([m.extent for m in meshes])
    half = (extent[:, 1] - extent[:, 0]) / 2
    reach = np.abs(extent[:, :, :2]).max(1)
    return Crowd(
        corners=np.concatenate([m.corners for m in meshes]),
        corner_body=np.repeat(index, corner_count),
        corner_face=np.repeat(np.arange(len(face_size)), face_size),
        faces=np.ascontiguousarray(np.concatenate([m.faces + f for m, f in zip(meshes, first_corner)]).T),
        face_size=face_size,
        face_body=np.repeat(index, face_count),
        face_solid=np.concatenate([m.face_solid + f for m, f in zip(meshes, first_solid)]),
        normals=np.concatenate([m.normals for m in meshes]),
        offsets=np.concatenate([m.offsets for m in meshes]),
        colours=np.concatenate([m.colours for m in meshes]),
        planes=planes,
        # A block has six planes; the padding of `compile_mesh` has a zero normal.
        plane_count=np.where(np.abs(planes[:, 6:, :3]).max((1, 2)) > 0, 10, 6),
        bounds=np.concatenate([m.bounds for m in meshes]),
        solid_body=np.repeat(index, solid_count),
        reflectance=np.concatenate([m.reflectance for m in meshes]),
        first_solid=first_solid,
        trees=[m.tree for m in meshes],
        low=extent[:, 0],
        high=extent[:, 1],
        radius=np.sqrt((reach**2).sum(1) + half[:, 2] ** 2),
        middle_z=extent[:, :, 2].mean(1),
    )
