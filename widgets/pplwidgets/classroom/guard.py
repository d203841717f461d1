"""Run in a grading kernel before anything else: refuses what no answer to an exercise needs.

Python's audit hooks cannot be taken away again. They see what is done through Python.
"""


def stand(private, allowed):
    """Refuse other programs, connections, and files: any of `private`, and writing elsewhere.

    Args:
        private: folders whose contents are nobody's business.
        allowed: folders in which everything may be read and written.
    """
    import os
    import sys

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))
    except (ImportError, ValueError, OSError):
        pass
    join, real, separator = os.path.join, os.path.realpath, os.sep
    within = [real(folder) + separator for folder in allowed]
    closed = [real(folder) + separator for folder in private]
    own, devices = os.getpid(), ("/dev/", "\\\\.\\")
    never = {
        "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
        "os.forkpty", "os.startfile", "pty.spawn", "socket.connect",
    }  # fmt: skip
    changing = {
        "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown",
        "os.link", "os.symlink", "shutil.rmtree", "sqlite3.connect",
    }  # fmt: skip
    # Where in an event's arguments a path stands, and the folder that it is relative to.
    places = {
        "os.remove": ((0, 1),), "os.rmdir": ((0, 1),), "os.mkdir": ((0, 2),),
        "os.chmod": ((0, 2),), "os.chown": ((0, 3),), "os.symlink": ((1, 2),),
        "os.rename": ((0, 2), (1, 3)), "os.link": ((0, 2), (1, 3)),
    }  # fmt: skip
    looking = {"os.listdir", "os.scandir"}
    # What a C library could be asked for instead.
    by_c = ("system", "popen", "exec", "fork", "vfork", "clone", "posix_spawn", "syscall", "kill",
            "open", "fopen", "creat", "unlink", "rename", "remove", "rmdir")  # fmt: skip

    def refuse(what):
        raise PermissionError(f"{what}: an answer that is being graded may not do that")

    def place(path, folder=-1):
        if isinstance(path, int) or path is None:
            return None
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            path = join(real(f"/proc/self/fd/{folder}"), path)
        return real(path) + separator

    def hook(event, args):
        if event in never:
            refuse(f"starting a program or a connection ({event})")
        if event == "os.kill" and args[0] != own:
            refuse("ending another program")
        if event == "ctypes.dlsym" and str(args[1]).startswith(by_c):
            refuse(f"calling {args[1]} of a C library")
        if event == "open":
            flags = args[2] if len(args) > 2 else 0
            wanted = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            look(place(args[0]), writes=isinstance(flags, int) and flags & wanted)
        elif event in looking or event in changing:
            for path, folder in places.get(event, ((0, None),)):
                inside = args[folder] if folder is not None and len(args) > folder else -1
                at = place(args[path], inside) if args else None
                look(at, writes=event in changing)

    def look(where, writes):
        if where is None or where.startswith(devices) or any(map(where.startswith, within)):
            return
        if any(map(where.startswith, closed)):
            refuse(f"looking at {join('...', os.path.basename(where.rstrip(separator)))}")
        if writes:
            refuse("writing outside its own folder")

    sys.addaudithook(hook)
