"""Few-shot learning by gradient descent: MAML, ANIL, NIL and everything between.

What is exported stands in `__init__.pyi`; each name is imported when it is first used, so that `innerloop --help` does
not wait for torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
