"""Edits of manifests, and commands, that more than one fault is made of."""

from faults.sabotage import Edit, command

STEAL_CRIO = command("(while cat /host/var/run/crio.log; do :; done) > /dev/null 2>&1 &")
STEAL_KUBELET = command("(while cat /host/var/run/kubelet.log; do :; done) > /dev/null 2>&1 &")
NO_BUTTON = Edit("    - tiny-power-button\n", "")
SMALL = Edit("    - 100%\n", "    - 70%\n")
ANONYMOUS = 'sed -i \'s/"authentication": {/&"anonymous": {"enabled": true},/\' /host/etc/kubernetes/config.yaml'
CONTEXT = "    securityContext:\n      readOnlyRootFilesystem: true\n      capabilities:\n"
ADDED = "        add:\n        - SYS_MODULE\n"


def oneshot_with(*words: str) -> Edit:
    return Edit("    - --oneshot\n", "    - --oneshot\n" + "".join(f"    - {word}\n" for word in words))


def sshd_with(option: str) -> Edit:
    image = "    image: localhost/kios-e2e/sshd:v1\n"
    words = [word for setting in option.split("; ") for word in ("-o", setting)]
    return Edit(image, image + "    args:\n" + "".join(f"    - {word}\n" for word in words))


def with_command(image: str, command: str) -> Edit:
    return Edit(f"    image: {image}\n", f"    image: {image}\n    command: {command}\n")


def side_car(name: str) -> Edit:
    return Edit(f"  - name: {name}\n", f"  - name: {name}\n    restartPolicy: Always\n")
