"""Modules: small programs that fetch data, and pages that draw it; their drafts, releases and builds."""

from cloister.modules.archive import MAX_BYTES, pack, unpack
from cloister.modules.building import BuildController, recipes
from cloister.modules.checking import check_files
from cloister.modules.configuration import Entry, Option, Scalar, check_values
from cloister.modules.errors import BadConfiguration, ModuleFileNotFound, ModuleNotFound, ReleaseNotFound
from cloister.modules.layers import Layers, Recipe
from cloister.modules.manifest import Described, Manifest, Permissions, describe
from cloister.modules.models import Module, Release
from cloister.modules.service import Modules
from cloister.modules.shipped import ShippedModules
from cloister.modules.sources import SourceController, Sources
from cloister.modules.store import Files, read_folder
from cloister.modules.templates import TEMPLATES

__all__ = [
    "MAX_BYTES",
    "TEMPLATES",
    "BadConfiguration",
    "BuildController",
    "Described",
    "Entry",
    "Files",
    "Layers",
    "Manifest",
    "Module",
    "ModuleFileNotFound",
    "ModuleNotFound",
    "Modules",
    "Option",
    "Permissions",
    "Recipe",
    "Release",
    "ReleaseNotFound",
    "Scalar",
    "ShippedModules",
    "SourceController",
    "Sources",
    "check_files",
    "check_values",
    "describe",
    "pack",
    "read_folder",
    "recipes",
    "unpack",
]
