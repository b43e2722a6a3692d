"""What pyproject.toml cannot say: a wheel brings the files of the book that verbs read (claims,
designs of studies, committed records), as data of the package in `astroformer/book`. In a checkout,
and in what `make install` installs in place, they are read where they lie.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Beside the book's sources; MANIFEST.in has the same for an archive of the sources.
FILES = ("claims.csv", "studies/*.yml", "ledger/**/*.json", "ledger/**/*.jsonl", "ledger/**/*.npz")
LOCAL = Path("ledger", "local")  # records of this machine, which git ignores


class BuildWithBook(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        book, target = Path("book"), Path(self.build_lib, "astroformer", "book")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for file in sorted(path for pattern in FILES for path in book.glob(pattern)):
            place = file.relative_to(book)
            if not place.is_relative_to(LOCAL):
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / place)


setup(cmdclass={"build_py": BuildWithBook})
