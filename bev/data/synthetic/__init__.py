"""A synthetic nuScenes: `generate` writes a complete data set of a made-up town; nothing is downloaded.

What is real about it: the rig's geometry and timing, the sizes of the objects, the table format. What is simplified:
the ground is flat and the ego vehicle stays level; a LiDAR turn is taken at one instant; there is no radar; shapes are
flat-shaded solids of 5 to 25 blocks and columns. Modules, in the order in which they use one another:

    options, rig, taxonomy      what is asked for; the sensors; nuScenes' names and sizes
    shapes, paint, vehicles, people, street      painted convex solids and the things made of them
    paths, population, stage    streets and lanes; bodies that never touch; places for them
    standing, moving, scenery, casting      who is put where, and how many of them
    ground, sky, scene          the painted ground, the light, one scene
    crowd, order, background, camera, imaging, lidar     the sensors
    annotation, tables, recorder, generate       nuScenes records and files
"""

from bev.data.synthetic.generate import TRAIN_SPLIT, VAL_SPLIT, generate
from bev.data.synthetic.options import WorldOptions

__all__ = ["TRAIN_SPLIT", "VAL_SPLIT", "WorldOptions", "generate"]
