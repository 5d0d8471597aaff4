/// What is known of a filesystem by its magic number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// One of this machine.
    Local(&'static str),
    /// One of this machine that keeps times less exactly than the others.
    CoarseTimes(&'static str),
    /// One whose changes may be made elsewhere, without an event here.
    Remote(&'static str),
    /// Another one.
    Unknown(i64),
}

/// Which filesystem a magic number is of (`statfs(2)`).
pub fn filesystem(magic: i64) -> Filesystem {
    if let Some(name) = remote_filesystem(magic) {
        return Filesystem::Remote(name);
    }
    match magic & 0xffff_ffff {
        0xef53 => Filesystem::Local("ext4"),
        0x5846_5342 => Filesystem::Local("XFS"),
        0x9123_683e => Filesystem::Local("Btrfs"),
        0x2fc1_2fc1 => Filesystem::Local("ZFS"),
        0xf2f5_2010 => Filesystem::Local("F2FS"),
        0x7366_746e => Filesystem::Local("NTFS"),
        0x0102_1994 => Filesystem::Local("tmpfs"),
        0x794c_7630 => Filesystem::Local("overlayfs"),
        0x4d44 => Filesystem::CoarseTimes("FAT"),
        0x2011_bab0 => Filesystem::CoarseTimes("exFAT"),
        _ => Filesystem::Unknown(magic),
    }
}

/// Filesystems whose changes may be made by other machines or processes without an event here, by their magic number
/// (`statfs(2)`).
pub fn remote_filesystem(magic: i64) -> Option<&'static str> {
    Some(match magic & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x786f_4256 => "a shared folder of VirtualBox",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        _ => return None,
    })
}
