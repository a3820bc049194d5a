"""scripts/get-cuda-toolkit without a network: pip takes packages that are made here out of a folder. And what the build
says with a toolkit, without one, and without one where one is required."""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

SOURCE = pathlib.Path(os.environ.get("KILN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("toolkit", str(SOURCE / "scripts/get-cuda-toolkit"))
toolkit = importlib.util.module_from_spec(importlib.util.spec_from_loader("toolkit", loader))
loader.exec_module(toolkit)

NVCC = f"#!/bin/sh\necho 'Cuda compilation tools, release {toolkit.CUDA}, V{toolkit.CUDA}.88'\n"
FILES = {"nvidia-cuda-nvcc": {"bin/nvcc": NVCC, "bin/crt/link.stub": "stub"},
         "nvidia-cublas": {"lib/libcublas.so.13": "library", "include/cublas.h": "header"}}


def make_wheel(folder, name, files):
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            member = zipfile.ZipInfo("nvidia/cu13/" + inside)
            member.external_attr = (0o755 if inside.startswith("bin/nv") else 0o644) << 16
            wheel.writestr(member, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/licenses/License.txt", f"licence of {name}")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@unittest.skipUnless(importlib.util.find_spec("pip"), "no pip")
class GetToolkit(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-toolkit-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.wheels = self.folder / "wheels"
        self.wheels.mkdir()
        self.target = self.folder / "cuda"
        packages = []
        for name, files in FILES.items():
            path = make_wheel(self.wheels, name, files)
            size = path.stat().st_size
            packages.append(toolkit.Package(name, "1.0", size, size, hashlib.sha256(path.read_bytes()).hexdigest(), "files"))
        self.replace(toolkit, "PACKAGES", packages)
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            self.replace_variable(name, None)
        self.replace_variable("PIP_CONFIG_FILE", os.devnull)
        self.replace_variable("PIP_NO_INDEX", "1")
        self.replace_variable("PIP_FIND_LINKS", str(self.wheels))

    def replace(self, owner, name, value):
        self.addCleanup(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def replace_variable(self, name, value):
        before = os.environ.pop(name, None)
        self.addCleanup(lambda: os.environ.update({name: before}) if before is not None else os.environ.pop(name, None))
        if value is not None:
            os.environ[name] = value

    def call(self):
        """The exit code, and what it said."""
        self.replace(sys, "argv", ["get-cuda-toolkit", str(self.target)])
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = toolkit.main()
        return code, said.getvalue()

    def assert_complete(self):
        self.assertTrue(os.access(self.target / "bin/nvcc", os.X_OK))
        self.assertEqual((self.target / "lib64/libcublas.so").read_text(), "library")
        self.assertEqual((self.target / "targets/x86_64-linux/include/cublas.h").read_text(), "header")
        self.assertEqual(len(list((self.target / "licenses").iterdir())), len(FILES))
        self.assertEqual(sorted(os.listdir(self.folder)), ["cuda", "wheels"])
        self.assertEqual(sorted(os.listdir(self.target)),
                         ["bin", "include", "lib", "lib64", "licenses", "targets", "toolkit.json"])

    def test_complete_then_already_there(self):
        code, said = self.call()
        self.assertEqual(code, 0, said)
        self.assertLess(said.index("End User License Agreement"), said.index("[1/2]"))
        self.assertLess(said.index("to download"), said.index("[1/2]"))
        self.assert_complete()
        shutil.rmtree(self.wheels)
        code, said = self.call()
        self.assertEqual(code, 0)
        self.assertIn("already there", said)

    def test_goes_on_where_it_stopped(self):
        cublas = self.wheels / "nvidia_cublas-1.0-py3-none-any.whl"
        cublas.rename(self.folder / "away.whl")
        code, said = self.call()
        self.assertEqual(code, toolkit.DATA_ERROR)
        self.assertIn("could not bring nvidia-cublas 1.0", said)
        self.assertFalse(self.target.exists())
        (self.folder / "away.whl").rename(cublas)
        (self.wheels / "nvidia_cuda_nvcc-1.0-py3-none-any.whl").unlink()
        code, said = self.call()
        self.assertEqual(code, 0, said)
        self.assertIn("1 packages", said)
        self.assert_complete()

    def test_another_wheel_of_the_same_name_is_refused(self):
        make_wheel(self.wheels, "nvidia-cublas", {"lib/libcublas.so.13": "something else"})
        code, said = self.call()
        self.assertEqual(code, toolkit.DATA_ERROR)
        self.assertIn("nvidia-cublas", said)
        self.assertFalse(self.target.exists())

    def test_folders_that_are_not_its_own_stay_untouched(self):
        self.target.mkdir()
        (self.target / "mine").write_text("text")
        code, said = self.call()
        self.assertEqual(code, toolkit.DATA_ERROR)
        self.assertIn("not made by this script", said)
        self.assertEqual(os.listdir(self.target), ["mine"])
        (self.target / "toolkit.json").write_text(json.dumps({"cuda": "12.1", "packages": {}}))
        code, said = self.call()
        self.assertEqual(code, toolkit.DATA_ERROR)
        self.assertIn("CUDA 12.1", said)

    def test_too_little_room(self):
        self.replace(toolkit, "PACKAGES", [toolkit.PACKAGES[0]._replace(unpacked=10**18)])
        code, said = self.call()
        self.assertEqual(code, toolkit.DATA_ERROR)
        self.assertIn("make room", said)


class Build(unittest.TestCase):
    """cmake/cuda.cmake in a project of its own, where the machine's own toolkits cannot be seen."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-toolkit-"))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(found LANGUAGES CXX)\n"
            f"set(KILN_CUDA AUTO CACHE STRING \"\")\ninclude({SOURCE}/cmake/cuda.cmake)\nmessage(STATUS \"CUDA: ${{KILN_HAS_CUDA}}\")\n")
        (self.folder / "kernels").symlink_to(SOURCE / "kernels")
        folders = os.environ["PATH"].split(":")
        ignored = [folder for folder in folders if os.path.exists(f"{folder}/nvcc")]
        self.path = ":".join(folder for folder in folders if folder not in ignored)  # libraries are looked for beside it, too
        ignored += [str(nvcc.parent) for nvcc in pathlib.Path("/usr/local").glob("cuda*/bin/nvcc")] + ["/usr/local/bin"]
        self.ignored = ";".join(ignored)

    def configure(self, *options, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "KILN_REQUIRE"))} | {"PATH": self.path}
        ran = subprocess.run(["cmake", "-S", self.folder, "-B", self.folder / "build", f"-DCMAKE_IGNORE_PATH={self.ignored}",
                              *options], env={**kept, **environment}, capture_output=True, text=True, check=False)
        return ran.returncode, " ".join((ran.stdout + ran.stderr).split())

    def make_toolkit(self, folder):
        for inside in ("bin", "include", "lib64"):
            (folder / inside).mkdir(parents=True)
        (folder / "bin/nvcc").write_text(NVCC + f"echo '#$ TOP={folder}' >&2\n")
        (folder / "bin/nvcc").chmod(0o755)
        (folder / "include/cuda_runtime.h").write_text("")
        for library in ("libcudart.so", "libcudart_static.a"):
            (folder / "lib64" / library).write_text("")

    def test_without_one_says_so_in_a_line(self):
        code, said = self.configure()
        self.assertEqual(code, 0, said)
        self.assertIn("-- CUDA: no nvcc found (12.8 or later); kiln is built for the CPU, the CUDA tests are skipped (scripts/get-cuda-toolkit "
                      "brings a whole toolkit) -- CUDA: OFF",
                      said)
        code, said = self.configure(KILN_REQUIRE_CUDA="1")
        self.assertNotEqual(code, 0)
        self.assertIn("KILN_REQUIRE_CUDA=1, but no nvcc found (12.8 or later): scripts/get-cuda-toolkit brings a whole toolkit", said)

    def test_says_what_of_a_toolkit_is_missing(self):
        self.make_toolkit(self.folder / ".cuda")
        (self.folder / ".cuda/lib64/libcudart_static.a").unlink()
        code, said = self.configure()
        self.assertEqual(code, 0, said)
        self.assertIn(f"-- CUDA: nvcc is there ({self.folder}/.cuda/bin/nvcc), but its toolkit has no libcudart_static.a; kiln is built", said)
        code, said = self.configure("-DKILN_CUDA=ON")
        self.assertNotEqual(code, 0)
        self.assertIn("KILN_CUDA=ON, but nvcc is there", said)
        nvcc = self.folder / ".cuda/bin/nvcc"
        nvcc.write_text(nvcc.read_text().replace(toolkit.CUDA, "12.2"))
        shutil.rmtree(self.folder / "build")
        code, said = self.configure()
        self.assertEqual(code, 0, said)
        self.assertIn("is too old or not complete (12.8 or later, with headers and libraries); kiln is built", said)

    def test_continuous_integration_requires_it_wherever_it_may_be(self):
        place = self.folder / "project"
        for inside in (".ci", "scripts"):
            (place / inside).mkdir(parents=True)
        shutil.copy(SOURCE / ".ci/run", place / ".ci/run")
        (place / "scripts/test").write_text("#!/bin/sh\necho required=$KILN_REQUIRE_CUDA\n")
        (place / "scripts/test").chmod(0o755)
        self.make_toolkit(self.folder / "other")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "KILN_REQUIRE"))}

        def said(**environment):
            return subprocess.run([place / ".ci/run"], env={**kept, "PATH": self.path, **environment}, capture_output=True, text=True,
                                  check=True).stdout
        if not os.path.exists("/usr/local/cuda/bin/nvcc"):
            self.assertEqual(said(), "required=\n")
        text = (place / ".ci/run").read_text()
        (place / ".ci/run").write_text(text.replace("/usr/local/cuda", "/nowhere"))
        self.assertEqual(said(), "required=\n")
        for environment in ({"CUDAToolkit_ROOT": f"{self.folder}/other"}, {"CUDAToolkit_ROOT": "/nowhere"}, {"CUDA_HOME": f"{self.folder}/other"},
                            {"PATH": f"{self.folder}/other/bin:{self.path}"}):
            self.assertIn("required=1\n", said(**environment), environment)
            self.assertEqual(said(**environment).count("CUDA kernels:"), 1)
        (self.folder / "other").rename(place / ".cuda")
        self.assertIn("required=1\n", said())

    def test_in_the_source_tree_or_where_it_is_said_to_be(self):
        self.make_toolkit(self.folder / ".cuda")
        self.make_toolkit(self.folder / "other")
        code, said = self.configure(KILN_REQUIRE_CUDA="1")
        self.assertEqual(code, 0, said)
        self.assertIn(f"({self.folder}/.cuda/bin/nvcc)", said)
        code, said = self.configure(f"-DCUDAToolkit_ROOT={self.folder}/other")
        self.assertIn(f"({self.folder}/other/bin/nvcc)", said)
        code, said = self.configure("-UCUDAToolkit_ROOT")
        self.assertIn(f"({self.folder}/.cuda/bin/nvcc)", said)
        code, said = self.configure(CUDAToolkit_ROOT=f"{self.folder}/other")  # not what is remembered
        self.assertIn(f"({self.folder}/other/bin/nvcc)", said)
        code, said = self.configure(f"-DCUDAToolkit_ROOT={self.folder}/nowhere")
        self.assertNotEqual(code, 0)
        self.assertIn("holds no bin/nvcc", said)
        shutil.rmtree(self.folder / ".cuda")
        code, said = self.configure("-UCUDAToolkit_ROOT", CUDA_HOME=f"{self.folder}/other")
        self.assertIn(f"({self.folder}/other/bin/nvcc)", said)
        shutil.rmtree(self.folder / "other")
        code, said = self.configure()
        self.assertEqual(code, 0, said)
        self.assertIn("no nvcc found", said)


if __name__ == "__main__":
    unittest.main()
