# batchsent as a job: `docker run ... IMAGE score INPUT... --output DIR`; exit codes and signals are the program's own.
#
#   docker build --tag batchsent .
#   docker run --rm --gpus all --volume /srv/reviews:/data batchsent score dumps --output scored --device cuda
#
# /srv/reviews has to be writable for uid 10001, or for the uid that --user names. Nothing else has to be:
# --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges (a model of a hub goes to /models).
# docs/containers.md has more.

# The base gives the distribution, a Python and what the NVIDIA container runtime looks for. The CUDA libraries that
# torch calls are in its own wheels: torch 2.13 has CUDA 13, which wants driver 580 or newer on the node.
# Without a GPU: --build-arg BASE=debian:12-slim --build-arg EXTRAS=openvino
ARG BASE=nvidia/cuda:12.8.1-base-ubuntu24.04

# --- What every stage begins with -----------------------------------------------------------------------------------
FROM ${BASE} AS python

# No versions here: the base decides the release, and its archive drops what is superseded, so a pin breaks the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# --- Dependencies: gigabytes that only pyproject.toml and constraints.txt can change, not the source ----------------
FROM python AS dependencies

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# A mirror, or an index that has CPU builds of torch. Not for passwords: `docker history` shows build arguments.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

WORKDIR /build
COPY constraints.txt ./
# Two virtual environments, because both distributions refuse to have their own Python's packages changed (PEP 668):
# one that becomes part of the image, and one for the pip that fills it, which does not.
RUN python3 -m venv --without-pip /opt/batchsent \
    && python3 -m venv pip \
    && pip/bin/pip install --no-cache-dir --constraint constraints.txt pip

# What is optional in pyproject.toml, separated by commas: gcs, lora, openvino, ray, s3.
ARG EXTRAS
COPY pyproject.toml ./
RUN python3 -c "import os, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [name for name in os.environ.get('EXTRAS', '').split(',') if name]; \
print(*project['dependencies'], *(line for name in extras for line in project['optional-dependencies'][name]), sep='\n')" \
        > dependencies.txt \
    && pip/bin/pip --python /opt/batchsent install --no-cache-dir \
        --constraint constraints.txt --requirement dependencies.txt

# --- The program ----------------------------------------------------------------------------------------------------
FROM dependencies AS program

COPY README.md LICENSE NOTICE ./
COPY src src
RUN pip/bin/pip --python /opt/batchsent install --no-cache-dir --no-deps --build-constraint constraints.txt \
        --prefix /opt/program .

# --- The image ------------------------------------------------------------------------------------------------------
FROM python

# Numeric, so that Kubernetes' runAsNonRoot can check it.
RUN useradd --no-log-init --uid 10001 --user-group --create-home batchsent \
    && install --directory --owner=10001 --group=10001 /models /data

# A layer for each, so that another version of the program does not push or pull the dependencies again.
COPY --from=dependencies /opt/batchsent /opt/batchsent
COPY --from=program /opt/program /opt/batchsent

USER 10001
ENV PATH=/opt/batchsent/bin:$PATH

# Models from a hub, and converted ones, outlive the container.
ENV HF_HOME=/models XDG_CACHE_HOME=/models
VOLUME ["/models"]
# matplotlib would complain that it cannot write to the home directory; /models may be another user's.
ENV MPLCONFIGDIR=/tmp/matplotlib

# Log lines reach the scheduler when they are written, not when a buffer is full.
ENV PYTHONUNBUFFERED=1

WORKDIR /data
ENTRYPOINT ["batchsent"]
CMD ["--help"]
