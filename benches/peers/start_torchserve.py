"""Starts TorchServe with one archived model, batching, and no debug."""

import pathlib
import subprocess

from asked import WORKERS, asked, environment, keep, program

wanted = asked()
store = wanted.scratch / "store"
store.mkdir(parents=True)

# Two milliseconds: about what thirty-two of its own requests take to arrive. Its default of 100 would be its latency.
config = wanted.scratch / "model.yaml"
config.write_text(f"""minWorkers: {WORKERS}
maxWorkers: {WORKERS}
batchSize: {wanted.batch}
maxBatchDelay: 2
handler:
  row: "{wanted.row}"
""")
archive = [program("torch-model-archiver"), "--model-name", wanted.name, "--version", "1", "--serialized-file", wanted.file]
archive += ["--handler", str(pathlib.Path(__file__).with_name("torchserve_handler.py")), "--config-file", str(config)]
subprocess.run([*archive, "--export-path", str(store)], check=True)

properties = wanted.scratch / "config.properties"
properties.write_text(f"""inference_address=http://127.0.0.1:{wanted.port}
management_address=http://127.0.0.1:{wanted.port + 1}
metrics_address=http://127.0.0.1:{wanted.port + 2}
grpc_inference_port={wanted.port + 3}
grpc_management_port={wanted.port + 4}
disable_token_authorization=true
disable_system_metrics=true
job_queue_size=1000
max_request_size=67108864
default_response_timeout=120
""")
quiet = wanted.scratch / "log4j2.xml"
quiet.write_text("""<Configuration><Appenders><Console name="out"><PatternLayout pattern="%m%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>""")

command = [program("torchserve"), "--start", "--foreground", "--ncs", "--model-store", str(store)]
command += ["--ts-config", str(properties), "--log-config", str(quiet)]
path = f"{pathlib.Path(program('python')).parent}:/usr/local/bin:/usr/bin:/bin"
keep(
    [*command, "--models", f"{wanted.name}={wanted.name}.mar"],
    cwd=wanted.scratch,
    env=environment(LOG_LOCATION=str(wanted.scratch), METRICS_LOCATION=str(wanted.scratch), TMPDIR=str(wanted.scratch), PATH=path),
)
