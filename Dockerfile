# docker build -t unveil . && docker run --rm unveil doctor
# Without a Docker daemon: containers/build.sh. BASE: any Linux with Python 3.11 or newer and venv.
ARG BASE=docker.io/library/python:3.11-slim
FROM ${BASE}
# Without a GPU, save a large download: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX=
ARG EXTRAS=maze
# pip's own settings, for networks with a mirror, a wheel folder or a certificate of their own
ARG PIP_INDEX_URL=https://pypi.org/simple
ARG PIP_FIND_LINKS=
ARG PIP_CERT=
WORKDIR /opt/unveil
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[${EXTRAS}]"
ENV PATH=/opt/unveil/.venv/bin:${PATH} UNVEIL_HOME=/data
WORKDIR /runs
ENTRYPOINT ["unveil"]
CMD ["--help"]
