"""Build the Cython kernels and ship `instruments/` and `protocols/` inside the package."""

import os
import shutil
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

EXT = Path("ext")
#: compilers side by side; where processes are spawned instead of forked, one after the other
JOBS = 0 if os.name == "nt" else os.cpu_count() or 1
DATA_FOLDERS = ("instruments", "protocols")
FLAGS = [] if os.name == "nt" else ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno"]
#: checks for the compiler to put in, as `.ci/sanitize` does; gcc only
CHECKS = [f"-fsanitize={names}" for names in os.environ.get("BATTERYLAB_SANITIZE", "").split()]
if CHECKS:
    FLAGS += [*CHECKS, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]


class BuildWithData(build_py):
    """Copy the folders a lab edits into the package as it is built."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder in DATA_FOLDERS:
            target = Path(self.build_lib, "batterylab", folder)
            target.mkdir(parents=True, exist_ok=True)
            for source in sorted(Path(folder).glob("*.*")):
                shutil.copy2(source, target / source.name)


kernels = [
    Extension(
        f"batterylab._kernels.{source.stem}",
        [source.as_posix()],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=FLAGS,
        extra_link_args=CHECKS,
    )
    for source in sorted(EXT.glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        kernels,
        nthreads=JOBS,
        build_dir="build/cython",
        # the package's own declarations (`_tasks.pxd`) are looked for from here
        include_path=[EXT.as_posix(), "."],
        # cdivision for the headers, too, which a .pyx file's own directives do not reach
        compiler_directives={"language_level": 3, "embedsignature": True, "cdivision": True},
    ),
    options={"build_ext": {"parallel": JOBS or None}},
    cmdclass={"build_py": BuildWithData},
    package_dir={"": "."},
    include_package_data=False,
)
