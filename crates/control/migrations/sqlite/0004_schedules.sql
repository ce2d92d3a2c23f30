-- Snapshots by the clock.

CREATE TABLE schedules (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    volume TEXT NOT NULL REFERENCES volumes (id),
    due_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (volume, name)
) STRICT;
CREATE INDEX schedules_by_due ON schedules (due_ms);
CREATE INDEX schedules_by_project ON schedules (project, id);
CREATE INDEX schedules_by_bare_name ON schedules (name);
