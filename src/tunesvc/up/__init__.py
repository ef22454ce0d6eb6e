"""Workers and dashboard as processes of one machine, tended until the study is done.

placing   which devices there are, and where the first workers go
packing   how many workers share a device, by what trials were measured to need
fleet     the processes: started, replaced, added to, stopped
"""

from tunesvc.up.fleet import Fleet
from tunesvc.up.packing import Look, Measured, Packing, Room, fitting, look, rooms, together
from tunesvc.up.placing import AUTO, cores, devices, placements

__all__ = [
    "AUTO",
    "Fleet",
    "Look",
    "Measured",
    "Packing",
    "Room",
    "cores",
    "devices",
    "fitting",
    "look",
    "placements",
    "rooms",
    "together",
]
