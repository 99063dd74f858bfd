# Training and rendering on an NVIDIA GPU. Built from the root of the repository:
#   docker build -f docker/pod.Dockerfile -t being-pod .
#   docker run --gpus all -v /volume:/work being-pod being data unpack me.being
#   docker run --gpus all -v /volume:/work being-pod being train --until-plateau
# /volume must belong to the user 10001.
# CUDA's libraries come with torch's wheel, the driver with the host. Triton needs a C compiler at first use.
FROM python:3.12-slim-trixie

ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BEING_HOME=/work \
    BEING_CACHE=/work/cache \
    TRITON_CACHE_DIR=/work/cache/triton

# The compilers build the native rasterizer now and Triton's launchers later.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY being being
RUN python -m pip install --no-cache-dir --constraint constraints.txt '.[all]' \
    && useradd --create-home --uid 10001 being \
    && mkdir /work \
    && chown being:being /work

USER 10001
VOLUME /work
WORKDIR /work
CMD ["being", "doctor"]
