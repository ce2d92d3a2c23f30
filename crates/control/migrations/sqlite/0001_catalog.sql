-- The catalog. Columns hold what is searched, counted or constrained; `body` holds the whole
-- record as JSON. Ids are version 7 UUIDs as text: their order is the order of creation.

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL REFERENCES projects (id),
    role TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX users_by_project ON users (project);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX tokens_by_user ON tokens (user);

CREATE TABLE volume_types (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    class TEXT NOT NULL,
    public INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    volume_type TEXT NOT NULL REFERENCES volume_types (id) ON DELETE CASCADE,
    project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    body TEXT NOT NULL,
    UNIQUE (volume_type, project)
) STRICT;

CREATE TABLE pools (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    class TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    volume_type TEXT NOT NULL REFERENCES volume_types (id),
    pool TEXT NOT NULL REFERENCES pools (id),
    origin_volume TEXT REFERENCES volumes (id),
    origin_snapshot TEXT REFERENCES snapshots (id),
    promised_bytes INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX volumes_by_name ON volumes (project, name);
CREATE INDEX volumes_by_status ON volumes (status);
CREATE INDEX volumes_by_type ON volumes (volume_type);
CREATE INDEX volumes_by_pool ON volumes (pool);
CREATE INDEX volumes_by_origin ON volumes (origin_volume, origin_snapshot);
CREATE INDEX volumes_by_origin_snapshot ON volumes (origin_snapshot);

CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    volume TEXT NOT NULL REFERENCES volumes (id),
    state TEXT NOT NULL,
    hidden_for TEXT,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX snapshots_by_name ON snapshots (project, name);
CREATE INDEX snapshots_by_volume ON snapshots (volume);
CREATE INDEX snapshots_by_state ON snapshots (state);
CREATE INDEX snapshots_by_clone ON snapshots (hidden_for);

CREATE TABLE hosts (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (project, name)
) STRICT;

-- An initiator name belongs to one host.
CREATE TABLE initiators (
    name TEXT PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX initiators_by_host ON initiators (host);

-- `sole_writer` is the volume of a read-write attachment whose type has no multi-attach: its
-- UNIQUE makes a second one impossible whatever the code above believes.
CREATE TABLE attachments (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    volume TEXT NOT NULL REFERENCES volumes (id),
    host TEXT NOT NULL REFERENCES hosts (id),
    state TEXT NOT NULL,
    sole_writer TEXT UNIQUE,
    body TEXT NOT NULL,
    UNIQUE (volume, host)
) STRICT;
CREATE INDEX attachments_by_host ON attachments (host);
CREATE INDEX attachments_by_project ON attachments (project);
CREATE INDEX attachments_by_state ON attachments (state);

CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    volume TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX operations_by_project ON operations (project);
CREATE INDEX operations_by_state ON operations (state);
CREATE INDEX operations_by_volume ON operations (volume);

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    project TEXT,
    actor_name TEXT NOT NULL,
    resource TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    action TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_project ON events (project, id);
CREATE INDEX events_by_resource ON events (resource_id, id);
CREATE INDEX events_by_action ON events (action, id);
