# SPDX-License-Identifier: Apache-2.0
"""Materials of the sample picture, as node trees built in Python. Runs inside Blender."""

import bpy


class Tree:
    """A material and short ways to add and link its nodes."""

    def __init__(self, name: str):
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.nodes = self.material.node_tree.nodes
        self.links = self.material.node_tree.links
        self.nodes.clear()
        self.output = self.nodes.new("ShaderNodeOutputMaterial")

    def add(self, kind: str, inputs: dict | None = None, **properties):
        """Add a node; values in `inputs` that are sockets are linked."""
        node = self.nodes.new(f"ShaderNode{kind}")
        for key, value in properties.items():
            setattr(node, key, value)
        for key, value in (inputs or {}).items():
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, node.inputs[key])
            else:
                node.inputs[key].default_value = value
        return node

    def finish(self, shader) -> bpy.types.Material:
        """Use a node's first output as the surface."""
        self.links.new(shader.outputs[0], self.output.inputs["Surface"])
        return self.material

    def mix(self, factor, a, b):
        """Colour mix; returns the result socket."""
        node = self.add("Mix", data_type="RGBA")
        for socket, value in ((node.inputs[0], factor), (node.inputs[6], a), (node.inputs[7], b)):
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, socket)
            else:
                socket.default_value = value
        return node.outputs[2]

    def bump(self, height, strength: float, distance: float):
        """Bump node; returns the normal socket."""
        return self.add(
            "Bump", {"Height": height, "Strength": strength, "Distance": distance}
        ).outputs[0]

    def position(self):
        """World position socket."""
        return self.add("NewGeometry").outputs["Position"]

    def noise(self, vector, scale: float, detail: float = 3.0):
        """Noise value socket."""
        return self.add("TexNoise", {"Vector": vector, "Scale": scale, "Detail": detail}).outputs[0]


def linear(colour) -> tuple[float, float, float, float]:
    """sRGB 0..1 to linear RGBA."""
    return (*(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour), 1.0)


def _image(tree: Tree, path: str):
    image = bpy.data.images.load(path)
    return tree.add("TexImage", image=image).outputs[0]


def skin(name: str, texture: str, scalp_colour) -> bpy.types.Material:
    """Painted skin, darker under the hair (vertex attribute `scalp`)."""
    tree = Tree(name)
    scalp = tree.add("Attribute", attribute_name="scalp").outputs["Fac"]
    colour = tree.mix(scalp, _image(tree, texture), linear(scalp_colour))
    pores = tree.noise(tree.position(), 900.0)
    return tree.finish(
        tree.add(
            "BsdfPrincipled",
            {
                "Base Color": colour,
                "Roughness": 0.5,
                "Specular IOR Level": 0.35,
                "Subsurface Weight": 0.18,
                "Subsurface Radius": (1.0, 0.35, 0.2),
                "Subsurface Scale": 0.006,
                "Normal": tree.bump(pores, 0.25, 0.0008),
            },
        )
    )


def cloth(name: str, texture: str, look: dict) -> bpy.types.Material:
    """Painted cloth with a weave and small creases."""
    tree = Tree(name)
    place = tree.position()
    weave = tree.bump(tree.noise(place, look.get("weave", 700.0)), 0.35, 0.001)
    creases = tree.add(
        "Bump",
        {
            "Height": tree.noise(place, 14.0, 2.0),
            "Strength": look.get("creases", 0.35),
            "Distance": 0.02,
            "Normal": weave,
        },
    ).outputs[0]
    return tree.finish(
        tree.add(
            "BsdfPrincipled",
            {
                "Base Color": _image(tree, texture),
                "Roughness": look.get("roughness", 0.85),
                "Specular IOR Level": look.get("specular", 0.2),
                "Sheen Weight": look.get("sheen", 0.15),
                "Normal": creases,
            },
        )
    )


def hair(name: str, colour) -> bpy.types.Material:
    """Chiang hair shader of a given colour."""
    tree = Tree(name)
    return tree.finish(
        tree.add(
            "BsdfHairPrincipled",
            {
                "Color": linear(colour),
                "Roughness": 0.35,
                "Radial Roughness": 0.5,
                "Random Roughness": 0.2,
            },
            parametrization="COLOR",
        )
    )


def eye(name: str) -> bpy.types.Material:
    """Wet eyeball with the colours of vertex attribute `colour`."""
    tree = Tree(name)
    colour = tree.add("Attribute", attribute_name="colour").outputs["Color"]
    return tree.finish(
        tree.add(
            "BsdfPrincipled", {"Base Color": colour, "Roughness": 0.08, "Specular IOR Level": 0.5}
        )
    )


def paving() -> bpy.types.Material:
    """Light stone slabs with dark joints, stained here and there."""
    tree = Tree("paving")
    place = tree.position()
    turned = tree.add("Mapping", {"Vector": place, "Rotation": (0, 0, 0.5)}).outputs[0]
    slabs = tree.add(
        "TexBrick",
        {
            "Vector": turned,
            "Scale": 1.0,
            "Color1": linear((0.64, 0.60, 0.55)),
            "Color2": linear((0.50, 0.48, 0.46)),
            "Mortar": linear((0.22, 0.21, 0.20)),
            "Mortar Size": 0.009,
            "Mortar Smooth": 0.3,
            "Brick Width": 0.6,
            "Row Height": 0.4,
        },
    )
    stain = tree.noise(place, 0.9, 6.0)
    grain = tree.noise(place, 60.0, 4.0)
    stain = tree.add(
        "MapRange", {"Value": stain, "From Min": 0.4, "From Max": 0.75, "To Max": 0.5}
    ).outputs[0]
    colour = tree.mix(stain, slabs.outputs[0], linear((0.40, 0.38, 0.36)))
    speck = tree.add(
        "MapRange", {"Value": grain, "From Min": 0.5, "From Max": 0.8, "To Max": 0.4}
    ).outputs[0]
    colour = tree.mix(speck, colour, linear((0.70, 0.68, 0.64)))
    height = tree.add("Math", {0: grain, 1: slabs.outputs["Fac"]}, operation="SUBTRACT").outputs[0]
    return tree.finish(
        tree.add(
            "BsdfPrincipled",
            {"Base Color": colour, "Roughness": 0.75, "Normal": tree.bump(height, 0.4, 0.004)},
        )
    )


def speckled(name: str, first, second, scale: float, roughness: float = 0.9):
    """Two colours mixed by noise: grass, bark, plaster."""
    tree = Tree(name)
    place = tree.position()
    value = tree.noise(place, scale, 6.0)
    ramp = tree.add("MapRange", {"Value": value, "From Min": 0.35, "From Max": 0.65}).outputs[0]
    colour = tree.mix(ramp, linear(first), linear(second))
    return tree.finish(
        tree.add(
            "BsdfPrincipled",
            {"Base Color": colour, "Roughness": roughness, "Normal": tree.bump(value, 0.6, 0.02)},
        )
    )


def leaf(name: str, first, second) -> bpy.types.Material:
    """Leaves that let some light through, each a little different."""
    tree = Tree(name)
    random = tree.add("NewGeometry").outputs["Random Per Island"]
    colour = tree.mix(random, linear(first), linear(second))
    front = tree.add("BsdfDiffuse", {"Color": colour})
    back = tree.add("BsdfTranslucent", {"Color": colour})
    mixed = tree.add("MixShader", {0: 0.4, 1: front.outputs[0], 2: back.outputs[0]})
    return tree.finish(mixed)


def facade() -> bpy.types.Material:
    """A far house front: plaster with rows of windows."""
    tree = Tree("facade")
    place = tree.position()
    turned = tree.add("Mapping", {"Vector": place, "Rotation": (1.5708, 0, 0)}).outputs[0]
    wall = tree.add(
        "TexBrick",
        {
            "Vector": turned,
            "Scale": 1.0,
            "Color1": linear((0.20, 0.23, 0.27)),
            "Color2": linear((0.30, 0.34, 0.38)),
            "Mortar": linear((0.74, 0.62, 0.50)),
            "Mortar Size": 0.75,
            "Mortar Smooth": 0.0,
            "Bias": 0.0,
            "Brick Width": 2.6,
            "Row Height": 3.2,
        },
        offset=0.0,
    )
    return tree.finish(
        tree.add("BsdfPrincipled", {"Base Color": wall.outputs[0], "Roughness": 0.7})
    )
