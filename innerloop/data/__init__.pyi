from .cache import cache_folder
from .datasets import from_dataset
from .folder import folder, folder_splits
from .glyphs import glyphs
from .known import NAMES, DataSet, data_set, load
from .mini_imagenet import mini_imagenet
from .omniglot import omniglot
from .splits import Splits

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
