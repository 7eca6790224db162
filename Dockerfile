# One image for every service: the checkout with its locked environment. It holds no settings and no key.
FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/evenkeel --create-home --shell /usr/sbin/nologin evenkeel
WORKDIR /opt/evenkeel
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps -e . \
    && install -d -o evenkeel -g evenkeel -m 0700 /opt/evenkeel/out

USER 10001:10001
ENV HOME=/var/lib/evenkeel \
    EVENKEEL_CONFIG=/etc/evenkeel/evenkeel.toml \
    PREFECT_HOME=/var/lib/evenkeel/prefect \
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false \
    PREFECT_LOGGING_EXTRA_LOGGERS=evenkeel \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1
ENTRYPOINT ["/usr/local/bin/python", "-m"]
CMD ["app.cli", "--help"]
