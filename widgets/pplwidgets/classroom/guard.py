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
        "os.forkpty", "os.startfile", "pty.spawn", "socket.connect", "os.putenv",
    }  # fmt: skip
    changing = {
        "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown",
        "os.link", "os.symlink", "shutil.rmtree", "shutil.move", "shutil.copyfile",
    }  # fmt: skip
    looking = {"os.listdir", "os.scandir"}
    never.discard("os.putenv")  # torch and others set their own

    def refuse(what):
        raise PermissionError(f"{what}: an answer that is being graded may not do that")

    def place(path):
        if isinstance(path, int) or path is None:
            return None
        return real(os.fsdecode(path)) + separator

    def hook(event, args):
        if event in never:
            refuse(f"starting a program or a connection ({event})")
        if event == "os.kill" and args[0] != own:
            refuse("ending another program")
        if event not in looking and event not in changing and event != "open":
            return
        where = place(args[0]) if args else None
        if where is None or where.startswith(devices) or any(map(where.startswith, within)):
            return
        if any(map(where.startswith, closed)):
            refuse(f"looking at {join('...', os.path.basename(where.rstrip(separator)))}")
        flags = args[2] if event == "open" and len(args) > 2 else 0
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in changing or (event == "open" and writes):
            refuse("writing outside its own folder")

    sys.addaudithook(hook)
