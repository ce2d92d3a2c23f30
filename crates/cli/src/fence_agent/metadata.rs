//! What the agent says about itself: resource-agent XML, as Pacemaker and others read it.

/// A parameter: its name on standard input, its option, whether it is required, its default, and
/// what it is for.
struct Parameter {
    name: &'static str,
    option: &'static str,
    required: bool,
    default: Option<&'static str>,
    about: &'static str,
}

const fn optional(name: &'static str, option: &'static str, about: &'static str) -> Parameter {
    Parameter { name, option, required: false, default: None, about }
}

const PARAMETERS: [Parameter; 9] = [
    Parameter {
        name: "action",
        option: "-o, --action=[action]",
        required: true,
        default: Some("off"),
        about: "What to do: off, on, status, monitor, list, validate-all, metadata",
    },
    optional("plug", "-n, --plug=[host]", "The host as Commonhold knows it: name or id"),
    optional("port", "--port=[host]", "The same, by its older name"),
    optional(
        "volumes",
        "--volumes=[a,b]",
        "Volumes of the cluster, by name or id, with commas: off cuts the host off from these \
         alone (all that it is attached to when not given); on attaches them and needs them",
    ),
    optional("url", "--url=[address]", "Address of the service, such as https://10.0.0.5:7700"),
    optional("token", "--token=[token]", "Token of a member of the project"),
    optional("token_file", "--token-file=[file]", "File that holds the token"),
    optional("project", "--project=[project]", "The project, for a token of an admin"),
    optional("config", "--config=[file]", "File with url and token, as the verbs read it"),
];

/// What it can be asked to do.
const ACTIONS: [&str; 7] = ["off", "on", "status", "monitor", "list", "validate-all", "metadata"];

/// The whole document.
pub(super) fn document() -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" ?>\n<resource-agent name=\"fence_commonhold\" shortdesc=\"Fence \
         agent for shared volumes of Commonhold\">\n<longdesc>Cuts a host off from the volumes \
         that Commonhold shares. It answers success only when the target has proven that nothing \
         more of the host can land. The host keeps running; what it cannot do any more is write \
         or read these volumes.</longdesc>\n<vendor-url></vendor-url>\n<parameters>\n",
    );
    for Parameter { name, option, required, default, about } in PARAMETERS {
        let default = default.map(|value| format!(" default=\"{value}\"")).unwrap_or_default();
        let required = u8::from(required);
        xml.push_str(&format!(
            "\t<parameter name=\"{name}\" unique=\"0\" required=\"{required}\">\n\t\t<getopt \
             mixed=\"{option}\" />\n\t\t<content type=\"string\"{default} />\n\t\t<shortdesc \
             lang=\"en\">{about}</shortdesc>\n\t</parameter>\n"
        ));
    }
    xml.push_str("</parameters>\n<actions>\n");
    for action in ACTIONS {
        // A host that was cut off comes back by a person's or a policy's word, never by joining.
        let automatic = if action == "on" { " automatic=\"0\" on_target=\"0\"" } else { "" };
        xml.push_str(&format!("\t<action name=\"{action}\"{automatic} />\n"));
    }
    xml.push_str("</actions>\n</resource-agent>\n");
    xml
}
