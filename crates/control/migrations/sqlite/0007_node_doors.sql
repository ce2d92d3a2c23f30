-- How nodes of other machines are reached; and pools of several nodes, whose paths may be alike:
-- the column says node and path from here on.

CREATE TABLE node_doors (
    id TEXT PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    body TEXT NOT NULL
) STRICT;

UPDATE pools SET path = json_extract(body, '$.node') || ':' || json_extract(body, '$.path');
