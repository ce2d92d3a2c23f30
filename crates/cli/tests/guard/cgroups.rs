//! Groups whose programs are in cgroups, and what a run leaves there for the next one.

use std::os::unix::fs::PermissionsExt;

use env::processes::cgroup;
use model::group::{Policy, Resource, Standing};
use rustix::process::{Pid, Signal, kill_process};

use crate::group::Ward;
use crate::stage::wait_for;
use crate::{is_gone, pause};

/// The group also has an export, of an NFS server that takes none back as long as a file `busy`
/// is there.
fn with_an_export(mut ward: Ward) -> Ward {
    let home = ward.stage.service.path("");
    let tools = home.join("tools");
    std::fs::create_dir(&tools).unwrap();
    let tool = tools.join("exportfs");
    let home = home.display();
    let script = format!(
        "#!/bin/sh\nlist={home}/exported\n\
         case $1 in\n-s) cat $list 2>/dev/null; exit 0;;\n-f) exit 0;;\n\
         -u) [ -e {home}/busy ] && exit 1; rm -f $list;;\n\
         *) echo '/srv 127.0.0.1(rw)' >$list;;\nesac\n"
    );
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    ward.tools = Some(tools);
    ward.group.resources.push(Resource::Export {
        path: "/srv".to_owned(),
        client: "127.0.0.1".to_owned(),
        options: Vec::new(),
    });
    ward
}

#[test]
fn a_group_that_was_stuck_while_it_was_frozen_runs_again_once_it_is_permitted() {
    if let Err(why) = cgroup::room() {
        eprintln!("skipped: no cgroup can be made here: {why}");
        return;
    }
    let mut ward = with_an_export(Ward::new(Policy::default())).begun();
    let process = ward.stage.diary(0).process.unwrap();
    let cgroup = ward.cgroup(0).unwrap();
    ward.stands(0, Standing::Running);
    // The next warden adopts what is frozen, loses the volume, and cannot take the export back.
    std::fs::write(ward.stage.service.path("busy"), "").unwrap();
    kill_process(ward.warden(0), Signal::KILL).unwrap();
    ward.ended(0);
    cgroup.freeze(true).unwrap();
    ward.stage.writes(1, 0);
    ward.start(0);
    let report = ward.stands(0, Standing::Failed);
    assert!(report.error.as_ref().unwrap().contains("cannot be ended"), "{report:?}");
    assert!(is_gone(process), "the program was ended all the same");

    std::fs::remove_file(ward.stage.service.path("busy")).unwrap();
    ward.want(|group| group.permitted = group.generation);
    ward.stands(0, Standing::Standby);
    let other = Pid::from_raw(ward.stage.diary(1).process.unwrap()).unwrap();
    kill_process(ward.warden(1), Signal::KILL).unwrap();
    kill_process(other, Signal::KILL).unwrap();
    ward.ended(1);
    ward.stage.writes(0, 1);
    ward.stands(0, Standing::Running);
    pause(200);
    assert!(!cgroup.is_frozen().unwrap());
    wait_for("its program", || (!cgroup.members().unwrap().is_empty()).then_some(()));
}
