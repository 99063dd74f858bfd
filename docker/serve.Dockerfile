# Live sessions on a CPU. Built from the root of the repository:
#   docker build -f docker/serve.Dockerfile -t being-serve .
#   docker run -p 127.0.0.1:8000:8000 --shm-size 256m -v /avatars:/srv/being being-serve --token SECRET
# The image holds pretrained files and needs no connection. The avatar lies in the volume, under runs/.
FROM python:3.12-slim-trixie AS build

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/being
ENV PATH=/opt/being/bin:$PATH \
    BEING_CACHE=/opt/being/cache

# torch without CUDA is a tenth of the size. Its version is that of constraints.txt.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt --index-url "$TORCH_INDEX" torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY being being
RUN pip install --no-cache-dir --constraint constraints.txt '.[talk,provenance]' \
    && being assets pull hama silero_vad

FROM python:3.12-slim-trixie
ENV PATH=/opt/being/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BEING_HOME=/srv/being \
    BEING_CACHE=/opt/being/cache \
    BEING_OFFLINE=1
COPY --from=build /opt/being /opt/being
RUN useradd --create-home --uid 10001 being \
    && mkdir /srv/being \
    && chown being:being /srv/being

USER 10001
VOLUME /srv/being
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["being", "serve", "--host", "0.0.0.0", "--port", "8000"]
