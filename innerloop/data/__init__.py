"""Data sets: glyphs (embedded), Omniglot, mini-ImageNet and your own folder, each as three banks of classes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
