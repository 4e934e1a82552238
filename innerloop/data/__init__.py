"""Data sets: glyphs (embedded), Omniglot, mini-ImageNet and your own folder, each as three banks of classes."""

from innerloop.data.cache import cache_folder
from innerloop.data.datasets import from_dataset
from innerloop.data.folder import folder, folder_splits
from innerloop.data.glyphs import glyphs
from innerloop.data.known import NAMES, DataSet, data_set, load
from innerloop.data.mini_imagenet import mini_imagenet
from innerloop.data.omniglot import omniglot
from innerloop.data.splits import Splits

__all__ = [
    "NAMES",
    "DataSet",
    "Splits",
    "cache_folder",
    "data_set",
    "folder",
    "folder_splits",
    "from_dataset",
    "glyphs",
    "load",
    "mini_imagenet",
    "omniglot",
]
