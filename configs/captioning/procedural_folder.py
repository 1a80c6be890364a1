# As procedural.py, but of picture files: those of the same people as tools/export_procedural.py writes them.
_base_ = ["procedural.py"]
images = dict(_delete_=True, type="ImageFolder", root="{{$PEOPLE_ROOT:data/people}}/LUPerson-MLLM/images")
