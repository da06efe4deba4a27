"""Stand-ins for everything that vLLM imports and its scheduler does not need (torch, transformers, compiled kernels): any module that cannot
be found is an empty one, whose names are classes that do nothing."""

import abc
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types


class Meta(abc.ABCMeta):
    """Of a class whose attributes are classes like it."""

    def __getattr__(cls, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        made = Meta(name, (Inert,), {"__module__": cls.__module__})
        setattr(cls, name, made)
        return made

    def __or__(cls, other):
        return cls

    __ror__ = __or__

    def __getitem__(cls, key):
        return cls

    def __iter__(cls):
        return iter(())

    def __contains__(cls, key):
        return False

    def __len__(cls):
        return 0

    def __lt__(cls, other):
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def __add__(cls, other):
        return other

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __add__


class Inert(metaclass=Meta):
    def __init__(self, *args, **kwargs):
        pass

    def __init_subclass__(cls, **kwargs):
        pass

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        from pydantic_core import core_schema

        return core_schema.any_schema()

    def __call__(self, *args, **kwargs):
        # A decorator with arguments leaves what it decorates as it is.
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else Inert()

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Inert()

    def __getitem__(self, key):
        return Inert()

    def __iter__(self):
        return iter(())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def __bool__(self):
        return False

    def __len__(self):
        return 0

    def __str__(self):
        return "inert"

    def __eq__(self, other):
        return isinstance(other, Inert)

    def __hash__(self):
        return 0

    def __lt__(self, other):
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def __add__(self, other):
        return other

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __add__


class Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        made = Meta(name, (Inert,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked first."""

    def __init__(self, absent):
        self.absent = absent

    def find_spec(self, name, path=None, target=None):
        if not self.absent(name):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = Module(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        module.__version__ = "2.14.0"


def install(absent):
    """Stands in for whatever `absent` says, to whom imports it; whoever asks first whether it is there is told that it is not."""
    sys.meta_path.insert(0, Finder(absent))
    find_spec, version = importlib.util.find_spec, importlib.metadata.version
    importlib.util.find_spec = lambda name, package=None: None if absent(name) else find_spec(name, package)

    def version_or_none(name):
        try:
            return version(name)
        except importlib.metadata.PackageNotFoundError:
            return "0"

    importlib.metadata.version = version_or_none
