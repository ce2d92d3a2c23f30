-- What thousands of volumes and attachments need to be found without reading them all.

-- May the host write, now or as soon as a change of its mode is through?
ALTER TABLE attachments ADD COLUMN may_write INTEGER NOT NULL DEFAULT 1;
UPDATE attachments SET may_write = (json_extract(body, '$.attachment.mode') = 'rw');
CREATE INDEX attachments_by_writer ON attachments (volume, may_write, id);
CREATE INDEX attachments_by_volume_state ON attachments (volume, state);

-- Names are looked up in all projects before the caller's own is preferred.
CREATE INDEX volumes_by_bare_name ON volumes (name);
CREATE INDEX snapshots_by_bare_name ON snapshots (name);
CREATE INDEX hosts_by_bare_name ON hosts (name);

-- A page of a project's list, in the list's order.
CREATE INDEX volumes_by_project ON volumes (project, id);
CREATE INDEX snapshots_by_project ON snapshots (project, id);
CREATE INDEX hosts_by_project ON hosts (project, id);
DROP INDEX attachments_by_project;
CREATE INDEX attachments_by_project ON attachments (project, id);
DROP INDEX operations_by_project;
CREATE INDEX operations_by_project ON operations (project, id);

-- Old events are forgotten from the oldest on.
CREATE INDEX events_by_time ON events (at_ms);
