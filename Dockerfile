# ChangeControl: one image for web, worker, jobs, archiver, beat and migrations. Runs as an ordinary user on a read-only root file system.
FROM python:3.11-slim-trixie AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/runtime.lock /build/runtime.lock
RUN python -m venv /opt/changecontrol/.venv \
 && /opt/changecontrol/.venv/bin/pip install --quiet --require-hashes --prefer-binary --requirement /build/runtime.lock

FROM python:3.11-slim-trixie

# Pango draws report.pdf; the fonts are what it draws with. PostgreSQL 17 backs servers of its own major version up and
# brings them back; for servers of another one, an image built on this one adds theirs (POSTGRES_PROGRAMS names where).
RUN install -d /etc/postgresql-common \
 && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf \
 && apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core \
    postgresql-17 procps tar \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 changecontrol \
 && useradd --system --uid 10001 --gid 10001 --home-dir /home/changecontrol --shell /usr/sbin/nologin changecontrol \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/changecontrol \
 && install -d /home/changecontrol/.ssh \
 && ln -s /run/references/known_hosts /home/changecontrol/.ssh/known_hosts

WORKDIR /opt/changecontrol
COPY --from=build /opt/changecontrol/.venv .venv
COPY manage.py LICENSE NOTICE ./
COPY changecontrol changecontrol
COPY deployments deployments
COPY recovery recovery
COPY templates templates
COPY static static
# Compiled now, because nothing can be written later.
RUN .venv/bin/python -m compileall -q changecontrol deployments recovery

ENV PATH=/opt/changecontrol/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=changecontrol.project.settings \
    GIT_MIRRORS=/var/lib/changecontrol/mirrors \
    OBJECT_STORE_URL=file:///var/lib/changecontrol/objects \
    WAL_FOLDERS=/var/lib/changecontrol/wal \
    RECOVERY_SANDBOXES=/var/lib/changecontrol/restores \
    HOME=/home/changecontrol \
    XDG_CACHE_HOME=/tmp
USER 10001:10001
VOLUME /var/lib/changecontrol
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["gunicorn", "changecontrol.project.wsgi:application", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "8", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
