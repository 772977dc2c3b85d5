# batchsent as a job: `docker run ... IMAGE score INPUT... --output DIR`; exit codes and signals are the program's own.
#
#   docker build --tag batchsent .
#   docker run --rm --init --gpus all --volume /srv/reviews:/data batchsent \
#       score dumps --output scored --device cuda
#
# --init: the program is process 1 otherwise, and that one has to collect the exit of every orphaned process.
# /srv/reviews has to be writable for uid 10001, or for the uid that --user names. Nothing else has to be:
# --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges (a model of a hub goes to /models).

# The base gives the distribution, a Python and what the NVIDIA container runtime looks for. The CUDA libraries that
# torch calls are in its own wheels: torch 2.13 has CUDA 13, which wants driver 580 or newer on the node.
# Without a GPU: --build-arg BASE=debian:12-slim --build-arg EXTRAS=openvino
ARG BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04
FROM ${BASE}

# A mirror, or an index that has CPU builds of torch. Not for passwords: `docker history` shows build arguments.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

# No versions here: the base decides the release, and its archive drops what is superseded, so a pin breaks the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# A virtual environment, because both distributions refuse to have their own Python's packages changed (PEP 668).
ENV PATH=/opt/batchsent/bin:$PATH

# What is optional in pyproject.toml, separated by commas: openvino, lora.
ARG EXTRAS

# Dependencies first: gigabytes that only pyproject.toml and constraints.txt can change, not the source.
WORKDIR /opt/build
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv /opt/batchsent \
    && python -m pip install --no-cache-dir --constraint constraints.txt pip \
    && python -c "import os, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [name for name in os.environ.get('EXTRAS', '').split(',') if name]; \
print(*project['dependencies'], *(line for name in extras for line in project['optional-dependencies'][name]), sep='\n')" \
        > dependencies.txt \
    && python -m pip install --no-cache-dir --constraint constraints.txt --requirement dependencies.txt

COPY README.md LICENSE NOTICE ./
COPY src src
RUN python -m pip install --no-cache-dir --no-deps --build-constraint constraints.txt .

# Numeric, so that Kubernetes' runAsNonRoot can check it.
RUN useradd --no-log-init --uid 10001 --user-group --create-home batchsent \
    && install --directory --owner=10001 --group=10001 /models /data
USER 10001

# Models from a hub, and converted ones, outlive the container.
ENV HF_HOME=/models XDG_CACHE_HOME=/models
VOLUME ["/models"]

# Log lines reach the scheduler when they are written, not when a buffer is full.
ENV PYTHONUNBUFFERED=1

WORKDIR /data
ENTRYPOINT ["batchsent"]
CMD ["--help"]
