"""Static libraries in the place of CUDA's: the linker takes them, and the real ones are loaded at the first call.

usage: stubs.py FOLDER
candle links against libcuda, libcublas and others, and a program linked so does not start where one is missing. In
FOLDER come libcuda.a and so on, made of stub.c and of the functions that cudarc declares, for the linker's search path:
a program linked with them starts anywhere, and says what is missing where it is called. Of CUDA's run-time library and
of libstdc++ there are static ones already: FOLDER gets links to them.
needs: cc, ar, cargo, nvcc in PATH; x86-64 Linux
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

# The module of cudarc, the library, the names of its file, the error codes of a missing library and of a missing
# function, and whether it is said on stderr: where there is no driver, the error of the caller says it.
LIBRARIES = [
    ("driver", "cuda", ["libcuda.so.1"], 100, 500, False),  # CUDA_ERROR_NO_DEVICE, CUDA_ERROR_NOT_FOUND
    ("cublas", "cublas", ["libcublas.so.13", "libcublas.so.12"], 1, 15, True),  # NOT_INITIALIZED, NOT_SUPPORTED
    ("cublaslt", "cublasLt", ["libcublasLt.so.13", "libcublasLt.so.12"], 1, 15, True),
    ("curand", "curand", ["libcurand.so.10"], 101, 999, True),  # NOT_INITIALIZED, INTERNAL_ERROR
    ("nvrtc", "nvrtc", ["libnvrtc.so.13", "libnvrtc.so.12"], 11, 11, True),  # INTERNAL_ERROR
    ("nccl", "nccl", ["libnccl.so.2"], 2, 5, True),  # ncclSystemError, ncclInvalidUsage
]
HERE = pathlib.Path(__file__).parent


def cudarc():
    """Where cargo has the sources of cudarc."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--features", "cuda"]
    packages = json.loads(subprocess.check_output(command, cwd=HERE.parent))["packages"]
    return next(pathlib.Path(p["manifest_path"]).parent for p in packages if p["name"] == "cudarc")


def functions(source):
    """Names and results of the functions that a module declares."""
    found = re.findall(r'extern "C" \{\s*fn (\w+)\([^;]*?\)\s*(?:->\s*([^;]+?))?;', source)
    assert len(found) == source.count('extern "C" {') > 0, "cudarc declares functions in another way"
    return dict(found)


def kind(name, result):
    if name in ("cuGetErrorName", "cuGetErrorString"):
        return "PUTS"
    if result.startswith("*"):
        return "TEXT"
    return "STATUS" if result.endswith(("result", "_t", "Result")) else "ZERO"


def header(found, files, no_library, no_function, says):
    names = ", ".join(f'"{name}"' for name in files)
    lines = [f"static const char *const FILES[] = {{{names}, 0}};"]
    lines += [f"enum {{ NO_LIBRARY = {no_library}, NO_FUNCTION = {no_function}, SAYS = {int(says)} }};"]
    each = [f"    F({i}, {name}, {kind(name, result)})" for i, (name, result) in enumerate(found.items())]
    return "\n".join(lines + ["#define FUNCTIONS(F) \\", " \\\n".join(each), ""])


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    sources = cudarc() / "src"
    for module, library, *about in LIBRARIES:
        found = functions((sources / module / "sys" / "mod.rs").read_text())
        (folder / "stub.h").write_text(header(found, *about))
        built = folder / f"{library}.o"
        subprocess.run(["cc", "-O2", "-fPIC", "-Wall", "-Werror", f"-I{folder}", "-c", HERE / "stub.c", "-o", built],
                       check=True)
        archive = folder / f"lib{library}.a"
        archive.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", archive, built], check=True)
        built.unlink()
        print(f"{archive.name}: {len(found)} functions")
    (folder / "stub.h").unlink()
    cudart = pathlib.Path(shutil.which("nvcc")).parent.parent / "lib" / "libcudart_static.a"
    stdc = subprocess.check_output(["cc", "-print-file-name=libstdc++.a"], text=True).strip()
    for name, there in [("libcudart.a", cudart), ("libstdc++.a", pathlib.Path(stdc))]:
        assert there.is_file(), f"there is no {there}"
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(there.resolve())


main(pathlib.Path(sys.argv[1]).resolve())
