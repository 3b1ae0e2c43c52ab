"""Say what is wrong with a built wheel and sdist: `check_dist.py WHEEL SDIST`."""

import sys
import tarfile
import zipfile


def wheel_faults(path: str) -> list[str]:
    """Return what does not belong in the wheel, or is missing from it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        listed = next(name for name in names if name.endswith("top_level.txt"))
        top_level = archive.read(listed).decode().split()
    built = (".c", ".pyx", ".pxd", ".pyc")
    faults = [f"{name} is in the wheel" for name in names
              if name.endswith(built) or "__pycache__" in name]  # fmt: skip
    if tops != {"batterylab"} or top_level != ["batterylab"]:
        faults.append(f"top level is {sorted(tops)}, top_level.txt {top_level}")
    for folder, ending in (("instruments", ".toml"), ("protocols", ".yaml"), ("_kernels", ".so")):
        if not any(n.startswith(f"batterylab/{folder}/") and n.endswith(ending) for n in names):
            faults.append(f"no {ending} in batterylab/{folder}")
    return faults


def sdist_faults(path: str) -> list[str]:
    """Return what is missing from the source distribution."""
    with tarfile.open(path) as archive:
        names = [name.split("/", 1)[-1] for name in archive.getnames()]
    wanted = (
        ("ext/", ".pyx"), ("instruments/", ".toml"), ("protocols/", ".yaml"), ("tests/", ".py"),
    )  # fmt: skip
    return [f"no {ending} under {folder} in the sdist" for folder, ending in wanted
            if not any(n.startswith(folder) and n.endswith(ending) for n in names)]  # fmt: skip


if __name__ == "__main__":
    found = wheel_faults(sys.argv[1]) + sdist_faults(sys.argv[2])
    print("\n".join(found) or "wheel and sdist are as they should be")
    sys.exit(1 if found else 0)
