import pickle

from star_actors.data.errors import DataError, FhirError, S3Error
from star_actors.errors import StarError


def test_every_data_error_is_a_star_error() -> None:
    assert issubclass(DataError, StarError)
    assert issubclass(S3Error, DataError)
    assert issubclass(FhirError, DataError)


def test_an_s3_error_pickles_with_its_place() -> None:
    again = pickle.loads(pickle.dumps(S3Error("gone", bucket="b", key="k")))
    assert (str(again), again.bucket, again.key) == ("gone", "b", "k")


def test_a_fhir_error_pickles_with_what_had_been_read() -> None:
    error = FhirError("cut", base_url="http://x/fhir", query="Patient", page=3, status=503, partial={"entry": [1]})
    again = pickle.loads(pickle.dumps(error))
    assert (again.base_url, again.query, again.page, again.status) == ("http://x/fhir", "Patient", 3, 503)
    assert again.partial == {"entry": [1]}
