//! The first stage: the document as typed values, each with its place in the file. Nothing is known yet of what
//! the values mean, and no default is filled in.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Finding;
use super::reader::Table;
use super::schema;

pub(super) struct Raw {
    pub(super) state_dir: Option<Spanned<String>>,
    pub(super) control: RawControl,
    pub(super) page: RawPage,
    pub(super) author: Option<RawAuthor>,
    pub(super) server: Option<RawServer>,
    pub(super) servers: Vec<(Spanned<String>, RawServer)>,
    pub(super) defaults: Settings,
    pub(super) folders: Vec<RawFolder>,
}

#[derive(Default)]
pub(super) struct RawPage {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) allow_network: Option<Spanned<bool>>,
    pub(super) key_file: Option<Spanned<String>>,
}

#[derive(Default)]
pub(super) struct RawControl {
    pub(super) group: Option<Spanned<String>>,
    pub(super) socket: Option<Spanned<String>>,
}

pub(super) struct RawAuthor {
    pub(super) name: Option<Spanned<String>>,
    pub(super) email: Option<Spanned<String>>,
}

pub(super) struct RawServer {
    pub(super) url: Option<Spanned<String>>,
    pub(super) allow_http: Option<Spanned<bool>>,
    pub(super) proxy: Option<Spanned<String>>,
    pub(super) ca_file: Option<Spanned<String>>,
    pub(super) connect_timeout: Option<Spanned<Duration>>,
    pub(super) request_timeout: Option<Spanned<Duration>>,
    pub(super) concurrency: Option<Spanned<u64>>,
    pub(super) bandwidth: Option<Spanned<String>>,
    pub(super) key_file: Option<Spanned<String>>,
}

pub(super) struct RawFolder {
    /// The folder's header.
    pub(super) at: Range<usize>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) repo: Option<Spanned<String>>,
    pub(super) settings: Settings,
}

/// What may stand in a folder and in `[defaults]`.
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) server: Option<Spanned<String>>,
    pub(super) branch: Option<Spanned<String>>,
    pub(super) create_branch_from: Option<Spanned<String>>,
    pub(super) create_repo: Option<Spanned<bool>>,
    pub(super) description: Option<Spanned<String>>,
    pub(super) remote_dir: Option<Spanned<String>>,
    pub(super) remote_path: Option<Spanned<String>>,
    pub(super) include: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) exclude: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) default_excludes: Option<Spanned<bool>>,
    pub(super) max_file_size: Option<Spanned<u64>>,
    pub(super) settle: RawSettle,
    pub(super) batch: RawBatch,
    pub(super) rescan_interval: Option<Spanned<Duration>>,
    pub(super) priority: Option<Spanned<u64>>,
    pub(super) upload_window: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) transport: Option<Spanned<String>>,
    pub(super) on_delete: Option<Spanned<String>>,
    pub(super) delete_brake: RawDeleteBrake,
    pub(super) after_push: RawAfterPush,
    pub(super) message: Option<Spanned<String>>,
}

#[derive(Clone, Default)]
pub(super) struct RawSettle {
    pub(super) quiet: Option<Spanned<Duration>>,
    pub(super) max_wait: Option<Spanned<Duration>>,
}

#[derive(Clone, Default)]
pub(super) struct RawBatch {
    pub(super) quiet: Option<Spanned<Duration>>,
    pub(super) max_wait: Option<Spanned<Duration>>,
    pub(super) max_files: Option<Spanned<u64>>,
    pub(super) max_bytes: Option<Spanned<u64>>,
    pub(super) marker: Option<Spanned<String>>,
}

#[derive(Clone, Default)]
pub(super) struct RawDeleteBrake {
    pub(super) share: Option<Spanned<u64>>,
    pub(super) files: Option<Spanned<u64>>,
}

#[derive(Clone, Default)]
pub(super) struct RawAfterPush {
    pub(super) action: Option<Spanned<String>>,
    pub(super) min_age: Option<Spanned<Duration>>,
    pub(super) move_to: Option<Spanned<String>>,
}

impl Raw {
    pub(super) fn read(document: &DeTable<'_>, findings: &mut Vec<Finding>) -> Self {
        let top = Table::new(document, 0..0, schema::TOP, "", findings);
        top.require(
            "author",
            "say who signs the commits:\n[author]\nname = \"rig-07\"\nemail = \"rig-07@lab.example\"",
            findings,
        );
        top.require(
            "folder",
            "add a folder: `oxen-sync add PATH --repo NAMESPACE/NAME`, or by hand:\n\
             [[folder]]\npath = \"/data/camera\"\nrepo = \"lab/cells\"",
            findings,
        );
        // An empty [servers] is as good as none.
        if document
            .get("servers")
            .and_then(|servers| servers.get_ref().as_table())
            .is_none_or(toml::map::Map::is_empty)
        {
            top.require(
                "server",
                "say where the server is:\n[server]\nurl = \"http://localhost:3000\"",
                findings,
            );
        }
        Self {
            state_dir: top.string("state_dir", findings),
            control: top
                .table("control", schema::CONTROL, "control.", findings)
                .map(|control| RawControl {
                    group: control.string("group", findings),
                    socket: control.string("socket", findings),
                })
                .unwrap_or_default(),
            page: top
                .table("page", schema::PAGE, "page.", findings)
                .map(|page| RawPage {
                    listen: page.string("listen", findings),
                    allow_network: page.boolean("allow_network", findings),
                    key_file: page.string("key_file", findings),
                })
                .unwrap_or_default(),
            author: top
                .table("author", schema::AUTHOR, "author.", findings)
                .map(|table| RawAuthor::read(&table, findings)),
            server: top
                .table("server", schema::SERVER, "", findings)
                .map(|table| RawServer::read(&table, findings)),
            servers: top
                .named_tables("servers", findings)
                .map(|servers| RawServer::read_named(&servers, findings))
                .unwrap_or_default(),
            defaults: top
                .table("defaults", schema::DEFAULTS, "", findings)
                .map(|table| Settings::read(&table, findings))
                .unwrap_or_default(),
            folders: top
                .tables("folder", findings)
                .into_iter()
                .map(|folder| {
                    let table = Table::new(folder.get_ref(), folder.span(), schema::FOLDER, "", findings);
                    RawFolder::read(&table, findings)
                })
                .collect(),
        }
    }
}

impl RawAuthor {
    fn read(table: &Table<'_>, findings: &mut Vec<Finding>) -> Self {
        table.require("name", "name the machine or person that commits: name = \"rig-07\"", findings);
        table.require("email", "Oxen asks for an address: email = \"rig-07@lab.example\"", findings);
        Self { name: table.string("name", findings), email: table.string("email", findings) }
    }
}

impl RawServer {
    fn read(table: &Table<'_>, findings: &mut Vec<Finding>) -> Self {
        table.require("url", "say where the server is: url = \"http://localhost:3000\"", findings);
        Self {
            url: table.string("url", findings),
            allow_http: table.boolean("allow_http", findings),
            proxy: table.string("proxy", findings),
            ca_file: table.string("ca_file", findings),
            connect_timeout: table.duration("connect_timeout", findings),
            request_timeout: table.duration("request_timeout", findings),
            concurrency: table.integer("concurrency", findings),
            bandwidth: table.string("bandwidth", findings),
            key_file: table.string("key_file", findings),
        }
    }

    fn read_named(servers: &Table<'_>, findings: &mut Vec<Finding>) -> Vec<(Spanned<String>, Self)> {
        let mut named = Vec::new();
        for (name, value) in servers.entries() {
            let DeValue::Table(table) = value.get_ref() else {
                let message = "`servers` holds a table for each server";
                findings.push(
                    Finding::new(name.span(), message)
                        .help("write [servers.NAME] on a line of its own and the server's keys below"),
                );
                continue;
            };
            let table = Table::new(table, value.span(), schema::SERVER, "", findings);
            named.push((name, Self::read(&table, findings)));
        }
        named
    }
}

impl RawFolder {
    fn read(table: &Table<'_>, findings: &mut Vec<Finding>) -> Self {
        table.require("path", "say which folder to watch: path = \"/data/camera\"", findings);
        table.require("repo", "say where its files go: repo = \"lab/cells\"", findings);
        Self {
            at: table.at(),
            path: table.string("path", findings),
            repo: table.string("repo", findings),
            settings: Settings::read(table, findings),
        }
    }
}

impl Settings {
    fn read(table: &Table<'_>, findings: &mut Vec<Finding>) -> Self {
        Self {
            server: table.string("server", findings),
            branch: table.string("branch", findings),
            create_branch_from: table.string("create_branch_from", findings),
            create_repo: table.boolean("create_repo", findings),
            description: table.string("description", findings),
            remote_dir: table.string("remote_dir", findings),
            remote_path: table.string("remote_path", findings),
            include: table.strings("include", findings),
            exclude: table.strings("exclude", findings),
            default_excludes: table.boolean("default_excludes", findings),
            max_file_size: table.size("max_file_size", findings),
            settle: table
                .table("settle", schema::SETTLE, "settle.", findings)
                .map(|settle| RawSettle {
                    quiet: settle.duration("quiet", findings),
                    max_wait: settle.duration("max_wait", findings),
                })
                .unwrap_or_default(),
            batch: table
                .table("batch", schema::BATCH, "batch.", findings)
                .map(|batch| RawBatch {
                    quiet: batch.duration("quiet", findings),
                    max_wait: batch.duration("max_wait", findings),
                    max_files: batch.integer("max_files", findings),
                    max_bytes: batch.size("max_bytes", findings),
                    marker: batch.string("marker", findings),
                })
                .unwrap_or_default(),
            rescan_interval: table.duration("rescan_interval", findings),
            priority: table.integer("priority", findings),
            upload_window: table.strings("upload_window", findings),
            transport: table.string("transport", findings),
            on_delete: table.string("on_delete", findings),
            delete_brake: table
                .table("delete_brake", schema::DELETE_BRAKE, "delete_brake.", findings)
                .map(|brake| RawDeleteBrake {
                    share: brake.percent("share", findings),
                    files: brake.integer("files", findings),
                })
                .unwrap_or_default(),
            after_push: table
                .table("after_push", schema::AFTER_PUSH, "after_push.", findings)
                .map(|after_push| RawAfterPush {
                    action: after_push.string("do", findings),
                    min_age: after_push.duration("min_age", findings),
                    move_to: after_push.string("move_to", findings),
                })
                .unwrap_or_default(),
            message: table.string("message", findings),
        }
    }

    /// These settings, and those of `defaults` where these are silent. A list replaces the default list.
    pub(super) fn over(&self, defaults: &Self) -> Self {
        fn pick<T: Clone>(own: &Option<T>, default: &Option<T>) -> Option<T> {
            own.as_ref().or(default.as_ref()).cloned()
        }
        Self {
            server: pick(&self.server, &defaults.server),
            branch: pick(&self.branch, &defaults.branch),
            create_branch_from: pick(&self.create_branch_from, &defaults.create_branch_from),
            create_repo: pick(&self.create_repo, &defaults.create_repo),
            description: pick(&self.description, &defaults.description),
            remote_dir: pick(&self.remote_dir, &defaults.remote_dir),
            remote_path: pick(&self.remote_path, &defaults.remote_path),
            include: pick(&self.include, &defaults.include),
            exclude: pick(&self.exclude, &defaults.exclude),
            default_excludes: pick(&self.default_excludes, &defaults.default_excludes),
            max_file_size: pick(&self.max_file_size, &defaults.max_file_size),
            settle: RawSettle {
                quiet: pick(&self.settle.quiet, &defaults.settle.quiet),
                max_wait: pick(&self.settle.max_wait, &defaults.settle.max_wait),
            },
            batch: RawBatch {
                quiet: pick(&self.batch.quiet, &defaults.batch.quiet),
                max_wait: pick(&self.batch.max_wait, &defaults.batch.max_wait),
                max_files: pick(&self.batch.max_files, &defaults.batch.max_files),
                max_bytes: pick(&self.batch.max_bytes, &defaults.batch.max_bytes),
                marker: pick(&self.batch.marker, &defaults.batch.marker),
            },
            rescan_interval: pick(&self.rescan_interval, &defaults.rescan_interval),
            priority: pick(&self.priority, &defaults.priority),
            upload_window: pick(&self.upload_window, &defaults.upload_window),
            transport: pick(&self.transport, &defaults.transport),
            on_delete: pick(&self.on_delete, &defaults.on_delete),
            delete_brake: RawDeleteBrake {
                share: pick(&self.delete_brake.share, &defaults.delete_brake.share),
                files: pick(&self.delete_brake.files, &defaults.delete_brake.files),
            },
            after_push: RawAfterPush {
                action: pick(&self.after_push.action, &defaults.after_push.action),
                min_age: pick(&self.after_push.min_age, &defaults.after_push.min_age),
                move_to: pick(&self.after_push.move_to, &defaults.after_push.move_to),
            },
            message: pick(&self.message, &defaults.message),
        }
    }
}
