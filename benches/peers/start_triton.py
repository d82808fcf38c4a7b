"""Starts Triton's own binary, as nvidia-pytriton brings it, with a model for its Python backend."""

import pathlib
import shutil
import sysconfig

from asked import WORKERS, asked, environment, keep

HERE = pathlib.Path(__file__).parent
wanted = asked()
site = pathlib.Path(sysconfig.get_path("purelib"))
triton = site / "pytriton" / "tritonserver"

folder = wanted.scratch / "models" / wanted.name
(folder / "1").mkdir(parents=True)
shutil.copy(HERE / "triton_model.py", folder / "1" / "model.py")
# The package has a stub for each Python apart, and the backend wants its own beside it.
backends = wanted.scratch / "backends"
shutil.copytree(triton / "backends", backends)
stubs = triton / "python_backend_stubs" / sysconfig.get_python_version()
shutil.copytree(stubs, backends / "python", dirs_exist_ok=True)
# No delay, which is its default: requests that wait while an instance computes are batched anyway.
(folder / "config.pbtxt").write_text(f"""backend: "python"
max_batch_size: {wanted.batch}
input {{ name: "input" data_type: TYPE_FP32 dims: {wanted.shape} }}
output {{ name: "output" data_type: TYPE_FP32 dims: [-1] }}
instance_group {{ count: {WORKERS} kind: KIND_CPU }}
dynamic_batching {{ }}
parameters {{ key: "file" value {{ string_value: "{wanted.file}" }} }}
""")

command = [str(triton / "bin" / "tritonserver"), f"--model-repository={wanted.scratch / 'models'}"]
command += [f"--backend-directory={backends}", f"--http-port={wanted.port}", "--http-address=127.0.0.1"]
command += ["--allow-grpc=false", "--allow-metrics=false", "--log-info=false", "--log-warning=false"]
libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
keep(command, env=environment(SITE=str(site), LD_LIBRARY_PATH=libraries))
