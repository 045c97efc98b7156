"""Build the package of a recipe and run the recipe's own tests, with py-rattler-build. For tests only.

    python build_recipe.py RECIPE CHANNELS FOLDER        (with the tools of tools.txt)

Prints one JSON object: file, dependencies and files of the package, and the output of each test.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

from rattler_build import Package, build_recipes


def main(recipe: Path, channels: str, folder: Path) -> None:
    """Build into a folder; a test that fails is in the object, and a build that fails raises."""
    found = [f"{channels}/conda-forge", f"{channels}/bioconda"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # Level 1: seconds in place of a minute.
        build_recipes([recipe], channel=found, output_dir=folder, package_format="conda:1", test="skip")
    (file,) = folder.glob("noarch/*.conda")
    package = Package.from_file(file)
    tests = [{"success": one.success, "output": one.output} for one in package.run_tests(channel=found)]
    sys.stdout.write(
        json.dumps({"file": str(file), "depends": package.depends, "files": package.files, "tests": tests}) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
